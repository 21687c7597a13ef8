//! Procedures by name: the server's own, those tests register as closures, and those written in T-SQL.

use std::sync::Arc;
use std::time::Duration;

use crate::errors::{Failure, SqlError};
use crate::fault::{Armed, from_call};
use crate::out::{Column, Out};
use crate::session::{Frame, Prepared, Session};
use crate::sql::catalog;
use crate::sql::convert::{Why, convert};
use crate::sql::emit::Emit;
use crate::sql::parse::Parser;
use crate::sql::run::{Flow, run_text};
use crate::sql::scope::same;
use crate::sql::tree::{Argument as Written, Expr, InsertFrom, Kind, Name, Parameter};
use crate::types::Type;
use crate::value::Value;

type Done<T> = Result<T, Failure>;

/// A value handed to a procedure.
#[derive(Clone, Debug, PartialEq)]
pub struct Argument {
    /// With its sign; empty when it is given by place.
    pub name: String,
    /// The type it came in.
    pub ty: Type,
    /// The value.
    pub value: Value,
    /// Whether the caller wants it back.
    pub output: bool,
    /// Whether the caller leaves it to the procedure.
    pub default: bool,
    /// The rows of a table parameter.
    pub rows: Option<(Vec<Column>, Vec<Vec<Value>>)>,
}

/// One call of a registered procedure.
#[derive(Debug, Default)]
pub struct Call {
    /// What the caller gave; `value` of an output may be set.
    pub arguments: Vec<Argument>,
    /// Result sets to send.
    pub results: Vec<(Vec<Column>, Vec<Vec<Value>>)>,
    /// The return status.
    pub status: i32,
}

/// What a test may register.
pub type Procedure = Arc<dyn Fn(&mut Call) -> Result<(), SqlError> + Send + Sync>;

/// A procedure's answer: its status and the values it gives back, by place.
pub(crate) struct Answer {
    pub(crate) status: i32,
    pub(crate) outputs: Vec<(u16, String, Type, Value)>,
    pub(crate) flow: Flow,
}

impl Answer {
    fn status(status: i32) -> Self {
        Self { status, outputs: Vec::new(), flow: Flow::Next }
    }
}

fn missing(procedure: &str, parameter: &str) -> SqlError {
    SqlError::new(
        201,
        format!("Procedure or function '{procedure}' expects parameter '{parameter}', which was not supplied."),
    )
}

impl Session {
    /// `EXEC name arguments`.
    pub(crate) fn run_exec(
        &mut self,
        status: Option<&str>,
        name: &Name,
        arguments: &[Written],
        out: &mut Out,
    ) -> Done<Flow> {
        let mut given = Vec::new();
        for argument in arguments {
            let mut one = Argument {
                name: argument.name.clone().unwrap_or_default(),
                ty: Type::Int,
                value: Value::Null,
                output: argument.output,
                default: argument.value == Expr::Default,
                rows: None,
            };
            match &argument.value {
                Expr::Default => {}
                Expr::Variable(variable) if self.table_variable(variable).is_ok() => {
                    let table = self.table_variable(variable)?.clone();
                    let rows = self.rows_of_sql(&format!("SELECT * FROM {}", table.sqlite), &[])?;
                    one.rows = Some((table.columns.into_iter().map(|column| column.column).collect(), rows));
                }
                value => (one.ty, one.value) = Emit::constant(self, value)?,
            }
            given.push(one);
        }
        out.in_procedure += 1;
        let answer = self.call(name, given, out);
        out.in_procedure -= 1;
        let answer = answer?;
        for (place, _, ty, value) in answer.outputs {
            if let Some(Written { value: Expr::Variable(variable), output: true, .. }) =
                arguments.get(usize::from(place))
            {
                self.assign(variable, &ty, &value)?;
            }
        }
        if let Some(status) = status {
            self.assign(status, &Type::Int, &Value::Integer(answer.status.into()))?;
        }
        if out.in_procedure == 0 {
            out.return_status(answer.status);
            out.done_as(0xFE, 0, 0xE0, 0);
        }
        Ok(if answer.flow == Flow::Stop { Flow::Stop } else { Flow::Next })
    }

    /// Calls whatever has the name.
    pub(crate) fn call(&mut self, name: &Name, given: Vec<Argument>, out: &mut Out) -> Done<Answer> {
        let full = name.to_string().to_ascii_lowercase();
        let registered =
            self.server.procedure(&full).or_else(|| self.server.procedure(full.trim_start_matches("dbo.")));
        if let Some(procedure) = registered {
            return self.call_registered(&procedure, given, out);
        }
        let bare = name.object.to_ascii_lowercase();
        if full == "fixture.fault" {
            return self.arm(&given);
        }
        if bare.starts_with("sp_") || bare.starts_with("xp_") {
            return self.call_system(&bare, given, out);
        }
        let text = self.definition_of(name)?;
        let mut statements = crate::sql::parse::batch(&text)?;
        let Some(Kind::CreateProcedure { parameters, body, .. }) = statements.pop().map(|statement| statement.kind)
        else {
            return Err(SqlError::no_procedure(&name.to_string()).into());
        };
        self.call_written(&name.object, &parameters, &body, given, out)
    }

    /// The text of a procedure written in T-SQL.
    pub(crate) fn definition_of(&self, name: &Name) -> Result<String, SqlError> {
        self.check_database(name)?;
        let schema = name.schema.as_deref().unwrap_or("dbo");
        let found = self.object_named(schema, &name.object)?.filter(|(_, kind)| kind == "P");
        let (id, _) = found.ok_or_else(|| SqlError::no_procedure(&name.to_string()))?;
        Ok(self.db.query_row("SELECT definition FROM fx_objects WHERE object_id = ?1", [id], |row| row.get(0))?)
    }

    fn call_registered(&mut self, procedure: &Procedure, given: Vec<Argument>, out: &mut Out) -> Done<Answer> {
        let mut call = Call { arguments: given, ..Call::default() };
        procedure(&mut call)?;
        for (columns, rows) in &call.results {
            out.columns(columns)?;
            for row in rows {
                out.row(columns, row)?;
            }
            out.done(crate::out::COUNT, 0xC1, rows.len() as u64);
        }
        let outputs = call
            .arguments
            .into_iter()
            .enumerate()
            .filter(|(_, argument)| argument.output)
            .map(|(at, argument)| (at as u16, argument.name, argument.ty, argument.value))
            .collect();
        Ok(Answer { status: call.status, outputs, flow: Flow::Next })
    }

    /// Puts arguments beside parameters, runs a text with them, and takes the outputs from it.
    fn call_written(
        &mut self,
        procedure: &str,
        parameters: &[Parameter],
        body: &str,
        given: Vec<Argument>,
        out: &mut Out,
    ) -> Done<Answer> {
        if given.len() > parameters.len() {
            return Err(SqlError::new(
                8144,
                format!("Procedure or function {procedure} has too many arguments specified."),
            )
            .into());
        }
        // Defaults are worked out before the new frame hides the caller's.
        let mut bound: Vec<Option<(usize, Argument)>> = parameters.iter().map(|_| None).collect();
        for (place, argument) in given.into_iter().enumerate() {
            let at = if argument.name.is_empty() {
                place
            } else {
                parameters.iter().position(|parameter| same(&parameter.name, &argument.name)).ok_or_else(|| {
                    SqlError::new(8145, format!("{} is not a parameter for procedure {procedure}.", argument.name))
                })?
            };
            if argument.output && !parameters[at].output && procedure != "sp_executesql" {
                return Err(SqlError::new(
                    8162,
                    format!("The formal parameter \"{}\" was not declared as an OUTPUT parameter, but the actual parameter passed in requested output.", parameters[at].name),
                )
                .into());
            }
            bound[at] = Some((place, argument));
        }
        let transactions = self.transactions;
        let outer = (self.no_count, self.abort_on_error, self.isolation);
        let result = self.nested(|session| {
            session.frames.push(Frame { procedure: procedure.to_owned(), ..Frame::default() });
            let result = session.run_bound(procedure, parameters, body, &bound, out);
            session.drop_frame();
            result
        });
        // What a procedure sets ends with it.
        (self.no_count, self.abort_on_error, self.isolation) = outer;
        let answer = result?;
        if procedure != "sp_executesql" && transactions != self.transactions && answer.flow != Flow::Stop {
            let error = SqlError::new(
                266,
                format!(
                    "Transaction count after EXECUTE indicates a mismatching number of BEGIN and COMMIT statements. Previous count = {transactions}, current count = {}.",
                    self.transactions
                ),
            );
            out.error(&error);
        }
        Ok(answer)
    }

    fn run_bound(
        &mut self,
        procedure: &str,
        parameters: &[Parameter],
        body: &str,
        bound: &[Option<(usize, Argument)>],
        out: &mut Out,
    ) -> Done<Answer> {
        for (parameter, bound) in parameters.iter().zip(bound) {
            if let Type::Table(type_name) = &parameter.ty {
                let type_name = Parser::new(type_name)?.name()?;
                let table = self.declare_typed_table(&parameter.name, &type_name)?;
                if let Some((_, Argument { rows: Some((columns, rows)), .. })) = bound {
                    self.fill(&table, columns, rows)?;
                }
                continue;
            }
            let (ty, value) = match bound {
                Some((_, argument)) if !argument.default => (argument.ty.clone(), argument.value.clone()),
                _ => match &parameter.default {
                    Some(default) => Emit::constant(self, default)?,
                    None => return Err(missing(procedure, &parameter.name).into()),
                },
            };
            let value = convert(&value, &ty, &parameter.ty, 0, Why::Cast)?;
            self.declare(&parameter.name, parameter.ty.clone(), value);
        }
        let flow = run_text(self, body, out)?;
        let status = match flow {
            Flow::Return(status) => status,
            Flow::Stop => -6,
            _ => 0,
        };
        let mut outputs = Vec::new();
        for (parameter, bound) in parameters.iter().zip(bound) {
            if let Some((place, argument)) = bound
                && argument.output
                && let Some((ty, value)) = self.variable(&parameter.name)
            {
                outputs.push((*place as u16, parameter.name.clone(), ty, value));
            }
        }
        let flow = if flow == Flow::Stop { Flow::Stop } else { Flow::Next };
        Ok(Answer { status, outputs, flow })
    }

    fn fill(&mut self, table: &catalog::TableInfo, columns: &[Column], rows: &[Vec<Value>]) -> Done<()> {
        let mut all = Vec::new();
        for row in rows {
            if row.len() != table.columns.len() {
                return Err(SqlError::new(
                    500,
                    "Trying to pass a table-valued parameter with a wrong number of columns.",
                )
                .into());
            }
            let mut values = Vec::new();
            for ((value, from), to) in row.iter().zip(columns).zip(&table.columns) {
                values.push(Some(convert(value, &from.ty, &to.column.ty, 0, Why::Assign)?));
            }
            all.push(values);
        }
        self.store(table, all)?;
        Ok(())
    }

    /// `sp_executesql` and its kin: a text with declared parameters.
    fn run_parametrized(&mut self, text: &str, declared: &str, values: Vec<Argument>, out: &mut Out) -> Done<Answer> {
        let parameters = if declared.trim().is_empty() { Vec::new() } else { Parser::new(declared)?.parameters()? };
        if let Some(missing) = parameters.get(values.len())
            && values.iter().all(|value| value.name.is_empty())
        {
            return Err(SqlError::new(
                8178,
                format!(
                    "The parameterized query '({declared}){}' expects the parameter '{}', which was not supplied.",
                    text.chars().take(60).collect::<String>(),
                    missing.name
                ),
            )
            .into());
        }
        self.call_written("sp_executesql", &parameters, text, values, out)
    }

    fn call_system(&mut self, name: &str, mut given: Vec<Argument>, out: &mut Out) -> Done<Answer> {
        let by = |name: &str, place: usize| {
            given
                .iter()
                .find(|argument| same(&argument.name, name))
                .or_else(|| given.get(place).filter(|argument| argument.name.is_empty()))
                .map(|argument| argument.value.clone())
                .unwrap_or(Value::Null)
        };
        match name {
            "sp_executesql" => {
                if given.is_empty() {
                    return Err(missing(name, "@statement").into());
                }
                let text = given.remove(0).value.to_text();
                let declared = if given.is_empty() { String::new() } else { given.remove(0).value.to_text() };
                let mut answer = self.run_parametrized(&text, &declared, given, out)?;
                shift(&mut answer, 2);
                Ok(answer)
            }
            "sp_prepare" | "sp_prepexec" => {
                if given.len() < 3 {
                    return Err(missing(name, "@stmt").into());
                }
                let parameters = given[1].value.to_text();
                let text = given[2].value.to_text();
                crate::sql::parse::batch(&text)?;
                let handle = self.next_handle;
                self.next_handle += 1;
                self.prepared.insert(handle, Prepared { parameters: parameters.clone(), text: text.clone() });
                let mut answer = if name == "sp_prepexec" {
                    let values = given.split_off(3);
                    let mut answer = self.run_parametrized(&text, &parameters, values, out)?;
                    shift(&mut answer, 3);
                    answer
                } else {
                    if let Ok(columns) = self.describe(&text, &parameters)
                        && !columns.is_empty()
                    {
                        out.columns(&columns)?;
                        out.done(crate::out::COUNT, 0xC1, 0);
                    }
                    Answer::status(0)
                };
                answer.outputs.insert(0, (0, given[0].name.clone(), Type::Int, Value::Integer(handle.into())));
                Ok(answer)
            }
            "sp_execute" => {
                let handle = by("@handle", 0).to_integer().unwrap_or(0) as i32;
                let Some(prepared) = self.prepared.get(&handle).cloned() else {
                    return Err(SqlError::new(
                        8179,
                        format!("Could not find prepared statement with handle {handle}."),
                    )
                    .into());
                };
                let values = given.split_off(1);
                let mut answer = self.run_parametrized(&prepared.text, &prepared.parameters, values, out)?;
                shift(&mut answer, 1);
                Ok(answer)
            }
            "sp_unprepare" => {
                let handle = by("@handle", 0).to_integer().unwrap_or(0) as i32;
                if self.prepared.remove(&handle).is_none() {
                    return Err(SqlError::new(
                        8179,
                        format!("Could not find prepared statement with handle {handle}."),
                    )
                    .into());
                }
                Ok(Answer::status(0))
            }
            "sp_reset_connection" => {
                self.reset();
                Ok(Answer::status(0))
            }
            "sp_rename" => {
                let (old, new) = (by("@objname", 0).to_text(), by("@newname", 1).to_text());
                let kind = Some(by("@objtype", 2)).filter(|value| !value.is_null()).map(|value| value.to_text());
                self.in_statement(out, |session, _| Ok(session.rename(&old, &new, kind.as_deref())?))?;
                Ok(Answer::status(0))
            }
            "sp_getapplock" => self.get_lock(
                &by("@Resource", 0),
                &by("@LockMode", 1),
                &by("@LockOwner", 2),
                &by("@LockTimeout", 3),
                out,
            ),
            "sp_releaseapplock" => {
                if self.server.release_lock(self.id, &self.database, &by("@Resource", 0).to_text()) {
                    return Ok(Answer::status(0));
                }
                Err(SqlError::new(1223, "Cannot release the application lock because it is not currently held.").into())
            }
            "sp_describe_first_result_set" => {
                let columns = self.describe(&by("@tsql", 0).to_text(), &by("@params", 1).to_text())?;
                let (columns, rows) = catalog::described(&columns);
                out.columns(&columns)?;
                for row in &rows {
                    out.row(&columns, row)?;
                }
                out.done(crate::out::COUNT, 0xC1, rows.len() as u64);
                Ok(Answer::status(0))
            }
            "sp_describe_undeclared_parameters" => self.describe_parameters(&by("@tsql", 0).to_text(), out),
            "sp_addextendedproperty" | "sp_updateextendedproperty" | "sp_dropextendedproperty" => {
                self.extended_property(name, &given, out)
            }
            "sp_tablecollations_100" | "sp_tablecollations_90" => {
                let table = Parser::new(by("@object", 0).to_text().trim_start_matches('.'))?.name()?;
                let table = catalog::find(self, &table)?.ok_or_else(|| SqlError::no_object(&table.to_string()))?;
                let columns = [
                    Column::new("colid", Type::Int),
                    Column::new("name", Type::NVarChar(128)),
                    Column::new("tds_collation", Type::Binary(5)),
                    Column::new("collation", Type::NVarChar(128)),
                ];
                out.columns(&columns)?;
                for (at, info) in table.columns.iter().enumerate() {
                    let text = info.column.ty.is_text() && info.column.ty != Type::Xml;
                    let collation = info.column.collation;
                    out.row(
                        &columns,
                        &[
                            Value::Integer(at as i64 + 1),
                            Value::text(&info.column.name),
                            if text { Value::Bytes(collation.wire().to_vec()) } else { Value::Null },
                            if text { Value::text(collation.name()) } else { Value::Null },
                        ],
                    )?;
                }
                out.done(crate::out::COUNT, 0xC1, table.columns.len() as u64);
                Ok(Answer::status(0))
            }
            "sp_datatype_info" | "sp_datatype_info_90" | "sp_datatype_info_100" => {
                let wanted = by("@data_type", 0).to_integer().unwrap_or(0);
                let columns: Vec<Column> = TYPE_INFO.iter().map(|(name, ty)| Column::new(*name, ty.clone())).collect();
                out.columns(&columns)?;
                let mut count = 0;
                for (name, number, precision) in LONG_TYPES {
                    if wanted == 0 || wanted == *number {
                        let mut row = vec![Value::Null; columns.len()];
                        row[0] = Value::text(*name);
                        row[1] = Value::Integer(*number);
                        row[2] = Value::Integer(*precision);
                        for (at, value) in [(6, 1), (7, 0), (8, 3), (10, 0), (15, *number)] {
                            row[at] = Value::Integer(value);
                        }
                        row[12] = Value::text(*name);
                        out.row(&columns, &row)?;
                        count += 1;
                    }
                }
                out.done(crate::out::COUNT, 0xC1, count);
                Ok(Answer::status(0))
            }
            "sp_set_session_context" => Ok(Answer::status(0)),
            _ => Err(SqlError::no_procedure(name).into()),
        }
    }

    fn get_lock(
        &mut self,
        resource: &Value,
        mode: &Value,
        owner: &Value,
        timeout: &Value,
        out: &mut Out,
    ) -> Done<Answer> {
        let exclusive = match mode.to_text().to_ascii_lowercase().as_str() {
            "exclusive" | "update" | "intentexclusive" => true,
            "shared" | "intentshared" => false,
            _ => return Ok(Answer::status(-999)),
        };
        let by_session = owner.to_text().eq_ignore_ascii_case("session");
        if !by_session && self.transactions == 0 {
            return Err(SqlError::new(1221, "The Database Engine is attempting to release a group of locks that are not currently held by the transaction.").into());
        }
        let limit = timeout.to_integer().or_else(|| self.lock_timeout.map(|limit| limit as i64)).unwrap_or(-1);
        let resource = resource.to_text();
        let mut waited = 0;
        loop {
            if self.server.take_lock(self.id, &self.database, &resource, exclusive, !by_session) {
                return Ok(Answer::status(i32::from(waited > 0)));
            }
            if limit >= 0 && waited >= limit {
                return Ok(Answer::status(-1));
            }
            out.listen(Duration::from_millis(5))?;
            waited += 5;
        }
    }

    /// The parameters a statement leaves undeclared, where it is an INSERT of values.
    fn describe_parameters(&mut self, text: &str, out: &mut Out) -> Done<Answer> {
        let statements = crate::sql::parse::batch(text)?;
        let mut found: Vec<(String, Type)> = Vec::new();
        for statement in &statements {
            let Kind::Insert(insert) = &statement.kind else { continue };
            let InsertFrom::Values(rows) = &insert.from else { continue };
            let table = self.target(&insert.into)?;
            let positions = self.insert_columns(&table, &insert.columns)?;
            for row in rows {
                for (expr, at) in row.iter().zip(&positions) {
                    if let Expr::Variable(name) = expr {
                        found.push((name.clone(), table.columns[*at].column.ty.clone()));
                    }
                }
            }
        }
        if found.is_empty() {
            return Err(SqlError::new(
                11_503,
                "The parameter type cannot be deduced because no statement is known that uses it.",
            )
            .into());
        }
        let columns: Vec<Column> = [
            ("parameter_ordinal", Type::Int),
            ("name", Type::NVarChar(128)),
            ("suggested_system_type_id", Type::Int),
            ("suggested_system_type_name", Type::NVarChar(256)),
            ("suggested_max_length", Type::SmallInt),
            ("suggested_precision", Type::TinyInt),
            ("suggested_scale", Type::TinyInt),
            ("suggested_user_type_id", Type::Int),
            ("suggested_user_type_database", Type::NVarChar(128)),
            ("suggested_user_type_schema", Type::NVarChar(128)),
            ("suggested_user_type_name", Type::NVarChar(128)),
            ("suggested_assembly_qualified_type_name", Type::NVarChar(4000)),
            ("suggested_xml_collection_id", Type::Int),
            ("suggested_xml_collection_database", Type::NVarChar(128)),
            ("suggested_xml_collection_schema", Type::NVarChar(128)),
            ("suggested_xml_collection_name", Type::NVarChar(128)),
            ("suggested_is_xml_document", Type::Bit),
            ("suggested_is_case_sensitive", Type::Bit),
            ("suggested_is_fixed_length_clr_type", Type::Bit),
            ("suggested_is_input", Type::Bit),
            ("suggested_is_output", Type::Bit),
            ("formal_parameter_name", Type::NVarChar(128)),
            ("suggested_tds_type_id", Type::Int),
            ("suggested_tds_length", Type::Int),
        ]
        .into_iter()
        .map(|(name, ty)| Column::new(name, ty))
        .collect();
        out.columns(&columns)?;
        let count = found.len() as u64;
        for (at, (name, ty)) in found.into_iter().enumerate() {
            let (length, precision, scale) = ty.sizes();
            let mut info = Vec::new();
            crate::types::write_type(&mut info, &ty, true, crate::types::Collation::default());
            let mut row = vec![Value::Null; columns.len()];
            row[0] = Value::Integer(at as i64 + 1);
            row[1] = Value::text(name);
            row[2] = Value::Integer(ty.ids().0);
            row[3] = Value::text(ty.declared());
            row[4] = Value::Integer(length);
            row[5] = Value::Integer(precision);
            row[6] = Value::Integer(scale);
            row[16..19].fill(Value::Integer(0));
            row[19] = Value::Integer(1);
            row[20] = Value::Integer(0);
            row[22] = Value::Integer(info[0].into());
            row[23] = Value::Integer(if length < 0 { 65_535 } else { length });
            out.row(&columns, &row)?;
        }
        out.done(crate::out::COUNT, 0xC1, count);
        Ok(Answer::status(0))
    }

    fn extended_property(&mut self, name: &str, given: &[Argument], out: &mut Out) -> Done<Answer> {
        let order = [
            "@name",
            "@value",
            "@level0type",
            "@level0name",
            "@level1type",
            "@level1name",
            "@level2type",
            "@level2name",
        ];
        // Without @value the later ones move up by place.
        let order: Vec<&str> =
            order.into_iter().filter(|part| *part != "@value" || name != "sp_dropextendedproperty").collect();
        let by = |wanted: &str| {
            let place = order.iter().position(|part| *part == wanted).unwrap_or(usize::MAX);
            given
                .iter()
                .find(|argument| same(&argument.name, wanted))
                .or_else(|| given.get(place).filter(|argument| argument.name.is_empty()))
                .map(|argument| argument.value.clone())
                .unwrap_or(Value::Null)
        };
        let property = by("@name").to_text();
        let (schema, object) = (by("@level0name").to_text(), by("@level1name").to_text());
        let found = self.object_named(&schema, &object)?;
        let Some((id, _)) = found else {
            return Err(SqlError::new(15_135, format!("Object is invalid. Extended properties are not permitted on '{schema}.{object}', or the object does not exist.")).into());
        };
        let mut minor = 0;
        if !by("@level2name").is_null() {
            let table = catalog::find_in(&self.db, &schema, &object)?.ok_or_else(|| SqlError::no_object(&object))?;
            minor = table.position(&by("@level2name").to_text())? as i64 + 1;
        }
        let value = by("@value");
        let value = match &value {
            Value::Bytes(bytes) => crate::wire_value::read_variant(bytes).map(|(_, value, _)| value).unwrap_or(value),
            _ => value,
        };
        self.in_statement(out, |session, _| {
            let gone = session.db.execute(
                "DELETE FROM fx_properties WHERE object_id = ?1 AND minor_id = ?2 AND name = ?3",
                rusqlite::params![id, minor, property],
            )?;
            if name == "sp_addextendedproperty" && gone > 0 {
                return Err(SqlError::new(15_233, format!("Property cannot be added. Property '{property}' already exists for '{schema}.{object}'.")).into());
            }
            if name != "sp_addextendedproperty" && gone == 0 {
                return Err(SqlError::new(15_217, format!("Property cannot be updated or deleted. Property '{property}' does not exist for '{schema}.{object}'.")).into());
            }
            if name != "sp_dropextendedproperty" {
                session.db.execute(
                    "INSERT INTO fx_properties VALUES (?1, ?2, ?3, ?4)",
                    rusqlite::params![id, minor, property, value.to_text()],
                )?;
            }
            Ok(())
        })?;
        Ok(Answer::status(0))
    }

    /// `EXEC fixture.fault kind, number, text, when, after, times`.
    fn arm(&mut self, given: &[Argument]) -> Done<Answer> {
        let by = |name: &str, place: usize| {
            given
                .iter()
                .find(|argument| same(&argument.name, name))
                .or_else(|| given.get(place).filter(|argument| argument.name.is_empty()))
                .map(|argument| argument.value.clone())
                .unwrap_or(Value::Null)
        };
        let number = by("@number", 1).to_integer().unwrap_or(0);
        let kind = by("@kind", 0).to_text();
        let fault = from_call(&kind, number, &by("@text", 2).to_text())
            .ok_or_else(|| SqlError::new(50_000, format!("There is no fault '{kind}'.")))?;
        self.server.arm(Armed {
            fault,
            when: by("@when", 3).to_text(),
            after: by("@after", 4).to_integer().unwrap_or(0) as u32,
            times: by("@times", 5).to_integer().unwrap_or(1) as u32,
        });
        Ok(Answer::status(0))
    }
}

/// The types whose length ODBC asks for, by its own numbers.
const LONG_TYPES: &[(&str, i64, i64)] =
    &[("nvarchar", -9, 4000), ("varbinary", -3, 8000), ("varchar", 12, 8000), ("datetime2", 93, 27)];

/// What sp_datatype_info shows.
const TYPE_INFO: &[(&str, Type)] = &[
    ("TYPE_NAME", Type::NVarChar(128)),
    ("DATA_TYPE", Type::SmallInt),
    ("PRECISION", Type::Int),
    ("LITERAL_PREFIX", Type::VarChar(32)),
    ("LITERAL_SUFFIX", Type::VarChar(32)),
    ("CREATE_PARAMS", Type::VarChar(32)),
    ("NULLABLE", Type::SmallInt),
    ("CASE_SENSITIVE", Type::SmallInt),
    ("SEARCHABLE", Type::SmallInt),
    ("UNSIGNED_ATTRIBUTE", Type::SmallInt),
    ("MONEY", Type::SmallInt),
    ("AUTO_INCREMENT", Type::SmallInt),
    ("LOCAL_TYPE_NAME", Type::NVarChar(128)),
    ("MINIMUM_SCALE", Type::SmallInt),
    ("MAXIMUM_SCALE", Type::SmallInt),
    ("SQL_DATA_TYPE", Type::SmallInt),
    ("SQL_DATETIME_SUB", Type::SmallInt),
    ("NUM_PREC_RADIX", Type::Int),
    ("INTERVAL_PRECISION", Type::SmallInt),
    ("USERTYPE", Type::SmallInt),
];

/// Outputs are numbered from the first argument of the outer call.
fn shift(answer: &mut Answer, by: u16) {
    for output in &mut answer.outputs {
        output.0 += by;
    }
}
