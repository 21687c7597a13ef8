//! How staged rows come into the target, one function per mode, all inside the commit's transaction. Each gives the
//! number of staged rows that arrived, counted by the server.

use dmg_connector::Result;
use dmg_protocol::job::{ProcedureParameter, Slice, WriteProcedure};
use dmg_protocol::{Fault, WriteMode};

use super::catalog::{self, Readable, Relation, literal, quoted, requoted, texts};
use super::commit;
use super::driver::Driver;
use super::write::{SqlServerSink, Staged};

/// Moves the staged rows to where readers look.
pub(super) async fn publish(sink: &SqlServerSink, session: &mut dyn Driver) -> Result<u64> {
    let staging = sink.staging_quoted();
    if sink.swaps() {
        let rows = count(session, &format!("SELECT COUNT_BIG(*) AS n FROM {staging}")).await?;
        session.batch(&commit::rename(sink)).await?;
        return Ok(rows);
    }
    let rows = match sink.request.mode {
        WriteMode::Procedure => hand_over(sink, session).await?,
        WriteMode::Upsert => upsert(sink, session).await?,
        _ => {
            for statement in preparations(sink)? {
                session.batch(&statement).await?;
            }
            count(session, &insert(sink, "")?).await?
        }
    };
    session.batch(&format!("DROP TABLE {staging}")).await?;
    Ok(rows)
}

/// The single number of an answer.
pub(super) async fn count(session: &mut dyn Driver, sql: &str) -> Result<u64> {
    let rows = session.batch(sql).await?;
    let number = rows.into_iter().next().map(|row| texts(row)()).unwrap_or_default();
    number.parse().map_err(|_| {
        let message = format!("{} did not say how many rows it changed.", session.place());
        Fault::new("StoreErrorAnswer", message).into()
    })
}

/// What happens before the rows come: the table is made or widened, the old rows go.
fn preparations(sink: &SqlServerSink) -> Result<Vec<String>> {
    let target = sink.target.quoted();
    let mut statements = Vec::new();
    if !sink.target.exists {
        let columns: Vec<String> = sink.staged.iter().map(definition).chain(sink.created_key()).collect();
        statements.push(format!("CREATE TABLE {target} ({})", columns.join(", ")));
        return Ok(statements);
    }
    let added: Vec<String> = sink.staged.iter().filter(|column| column.added).map(definition).collect();
    if !added.is_empty() {
        statements.push(format!("ALTER TABLE {target} ADD {}", added.join(", ")));
    }
    match (sink.request.mode, &sink.request.slice) {
        (WriteMode::Overwrite, _) => statements.push(format!("DELETE FROM {target}")),
        (WriteMode::Slice, Some(slice)) => {
            let value = slice_literal(sink.found(), slice, &sink.target.label())?;
            statements.push(format!("DELETE FROM {target} WHERE {} = {value}", quoted(&slice.column)));
        }
        _ => {}
    }
    Ok(statements)
}

fn definition(column: &Staged) -> String {
    let null = if column.nullable { "NULL" } else { "NOT NULL" };
    format!("{} {} {null}", column.name(), column.target_type)
}

/// The statement that inserts staged rows, all or those of a condition, and says how many it were.
fn insert(sink: &SqlServerSink, condition: &str) -> Result<String> {
    let (target, staging) = (sink.target.quoted(), sink.staging_quoted());
    let mut columns = sink.column_list();
    let mut values = sink.staged.iter().map(|column| column.expression.clone()).collect::<Vec<_>>().join(", ");
    if let Some(slice) = sink.request.slice.as_ref().filter(|_| sink.request.mode == WriteMode::Slice) {
        columns.push_str(&format!(", {}", quoted(&slice.column)));
        values.push_str(&format!(", {}", slice_literal(sink.found(), slice, &sink.target.label())?));
    }
    let insert = format!(
        "INSERT INTO {target} ({columns}) SELECT {values} FROM {staging} AS s{condition}; \
         SELECT ROWCOUNT_BIG() AS n"
    );
    Ok(if sink.staged.iter().any(|column| column.identity) {
        format!("SET IDENTITY_INSERT {target} ON; {insert}; SET IDENTITY_INSERT {target} OFF")
    } else {
        insert
    })
}

/// The value of a slice as its column takes it.
pub(super) fn slice_literal(found: &[Readable], slice: &Slice, table: &str) -> Result<String> {
    let Some(column) = found.iter().find(|column| column.column.name == slice.column) else {
        let message = format!("Table {table} has no column \"{}\" for the slice.", slice.column);
        let remedy = "Add a column of type binary(32) to the table, or name another in sliceIdentifierColumnName.";
        return Err(Fault::new("UserErrorColumnMissing", message).remedy(remedy).with("column", &slice.column).into());
    };
    let hexadecimal = slice.value.len() == 64 && slice.value.bytes().all(|byte| byte.is_ascii_hexdigit());
    let limit = column.native.limit().unwrap_or(usize::MAX);
    match column.native.name.as_str() {
        "binary" | "varbinary" if hexadecimal && limit >= 32 && (column.native.name != "binary" || limit == 32) => {
            Ok(format!("0x{}", slice.value))
        }
        "char" | "varchar" | "nchar" | "nvarchar" if hexadecimal && limit >= 64 => Ok(literal(&slice.value)),
        _ => {
            let message = format!("Column \"{}\" of {table} cannot hold the hash of a slice.", slice.column);
            let remedy = "Give it the type binary(32).";
            Err(Fault::new("UserErrorSettings", message).remedy(remedy).with("column", &slice.column).into())
        }
    }
}

/// Refuses an upsert without a key, or with one that is not written.
pub(super) fn check_keys(sink: &SqlServerSink) -> Result<()> {
    let table = sink.target.label();
    if sink.keys().is_empty() {
        let message = format!("Table {table} has no primary key, and no key was named for the upsert.");
        let remedy = "Name the key columns, or give the table a primary key.";
        return Err(Fault::new("UserErrorSettings", message).remedy(remedy).into());
    }
    for key in sink.keys() {
        let Some(column) = sink.staged.iter().find(|column| column.plan.sink == *key) else {
            let message = format!("The key column \"{key}\" of {table} is not among the columns that are written.");
            return Err(Fault::new("UserErrorColumnMissing", message).with("column", key).into());
        };
        if !column.plain() {
            let message = format!("Column \"{key}\" of type {} cannot be the key of an upsert.", column.target_type);
            return Err(Fault::new("UserErrorSettings", message).with("column", key).into());
        }
    }
    let rewritten = sink.staged.iter().find(|column| column.identity && !sink.keys().contains(&column.plan.sink));
    if let Some(column) = rewritten {
        let message = format!("The identity column \"{}\" of {table} cannot be updated.", column.plan.sink);
        let remedy = "Leave it out of the mapping, or name it as the key.";
        return Err(Fault::new("UserErrorSettings", message).remedy(remedy).into());
    }
    Ok(())
}

/// Replaces rows by key and adds the others.
async fn upsert(sink: &SqlServerSink, session: &mut dyn Driver) -> Result<u64> {
    let statements = Upsert::of(sink)?;
    let found = session.batch(&statements.doubled).await?;
    if !found.is_empty() {
        let message = format!("Two rows that are written to {} have the same key.", sink.target.label());
        return Err(Fault::new("UserErrorDuplicateKey", message).into());
    }
    if !session.batch(&statements.null).await?.is_empty() {
        let message = format!("A row that is written to {} has NULL in its key.", sink.target.label());
        return Err(Fault::new("UserErrorValue", message).into());
    }
    for statement in &statements.before {
        session.batch(statement).await?;
    }
    let replaced = count(session, &statements.update).await?;
    let added = count(session, &statements.insert).await?;
    Ok(replaced + added)
}

struct Upsert {
    before: Vec<String>,
    doubled: String,
    null: String,
    update: String,
    insert: String,
}

impl Upsert {
    fn of(sink: &SqlServerSink) -> Result<Self> {
        let (target, staging) = (sink.target.quoted(), sink.staging_quoted());
        let keys: Vec<String> = sink.keys().iter().map(|key| quoted(key)).collect();
        let same: Vec<String> = keys.iter().map(|key| format!("t.{key} = s.{key}")).collect();
        let same = same.join(" AND ");
        let nulls: Vec<String> = keys.iter().map(|key| format!("{key} IS NULL")).collect();
        let sets: Vec<String> = sink
            .staged
            .iter()
            .filter(|column| !sink.keys().contains(&column.plan.sink))
            .map(|column| {
                let name = column.name();
                let value = if column.plain() {
                    format!("s.{name}")
                } else {
                    column.expression.replacen(&name, &format!("s.{name}"), 1)
                };
                format!("{name} = {value}")
            })
            .collect();
        let update = if sets.is_empty() {
            format!("SELECT COUNT_BIG(*) AS n FROM {target} AS t INNER JOIN {staging} AS s ON {same}")
        } else {
            format!(
                "UPDATE t SET {} FROM {target} AS t INNER JOIN {staging} AS s ON {same}; SELECT ROWCOUNT_BIG() AS n",
                sets.join(", ")
            )
        };
        Ok(Upsert {
            before: preparations(sink)?,
            doubled: format!(
                "SELECT TOP (1) 1 AS one FROM {staging} GROUP BY {} HAVING COUNT_BIG(*) > 1",
                keys.join(", ")
            ),
            null: format!("SELECT TOP (1) 1 AS one FROM {staging} WHERE {}", nulls.join(" OR ")),
            update,
            insert: insert(sink, &format!(" WHERE NOT EXISTS (SELECT 1 FROM {target} AS t WHERE {same})"))?,
        })
    }
}

fn procedure(sink: &SqlServerSink) -> Result<&WriteProcedure> {
    sink.request.procedure.as_ref().ok_or_else(|| no_procedure().into())
}

fn no_procedure() -> Fault {
    let message = "The copy is to hand its rows to a stored procedure, but names none.";
    Fault::new("UserErrorSettings", message).remedy("Name it in sqlWriterStoredProcedureName.")
}

/// Columns of the table type that the procedure takes.
pub(super) async fn table_type(
    session: &mut dyn Driver,
    request: &dmg_connector::SinkRequest,
) -> Result<Vec<Readable>> {
    let procedure = request.procedure.as_ref().ok_or_else(no_procedure)?;
    let Some(name) = &procedure.table_type else {
        let message = format!("The procedure {} needs to be told the type of its table parameter.", procedure.name);
        let remedy = "Name the table type in sqlWriterTableType.";
        return Err(Fault::new("UserErrorSettings", message).remedy(remedy).into());
    };
    checked_name(name)?;
    let mut parts = catalog::parts(name).unwrap_or_default().into_iter().rev();
    let (last, schema) = (parts.next().unwrap_or_default(), parts.next());
    let sql = "SELECT t.type_table_object_id, s.name, t.name FROM sys.table_types t \
         JOIN sys.schemas s ON s.schema_id = t.schema_id WHERE t.name = @P1 AND s.name = ISNULL(@P2, SCHEMA_NAME())";
    let row = session.query(sql, &[Some(&last), schema.as_deref()]).await?.into_iter().next();
    let Some(row) = row else {
        let message = format!("{} has no table type \"{name}\" that this log-in can see.", session.place());
        let remedy = "Check the name in sqlWriterTableType, or create the type.";
        return Err(Fault::new("UserErrorProcedureMissing", message).remedy(remedy).into());
    };
    let mut next = texts(row);
    let relation = Relation { id: next(), schema: next(), name: next(), kind: "TT".to_owned() };
    catalog::table_columns(session, &relation).await
}

fn checked_name(name: &str) -> Result<String> {
    requoted(name).ok_or_else(|| {
        let message = format!("\"{name}\" is no name of a procedure or type.");
        Fault::new("UserErrorSettings", message).remedy("Write schema.name, with [ ] around odd names.").into()
    })
}

/// Hands all rows to the procedure in a variable of its table type.
async fn hand_over(sink: &SqlServerSink, session: &mut dyn Driver) -> Result<u64> {
    let sql = hand_over_statement(sink, procedure(sink)?)?;
    count(session, &sql).await
}

fn hand_over_statement(sink: &SqlServerSink, procedure: &WriteProcedure) -> Result<String> {
    let table_type = checked_name(procedure.table_type.as_deref().unwrap_or_default())?;
    let parameter = procedure.table_parameter.as_deref().unwrap_or(&sink.target.table);
    let values = sink.staged.iter().map(|column| column.expression.clone()).collect::<Vec<_>>().join(", ");
    let mut arguments = vec![format!("{} = @dmg_rows", parameter_name(parameter)?)];
    for ProcedureParameter { name, value, .. } in &procedure.parameters {
        let value = value.as_deref().map_or_else(|| "NULL".to_owned(), literal);
        arguments.push(format!("{} = {value}", parameter_name(name)?));
    }
    Ok(format!(
        "DECLARE @dmg_rows {table_type}; DECLARE @dmg_count bigint; \
         INSERT INTO @dmg_rows ({}) SELECT {values} FROM {} AS s; SET @dmg_count = ROWCOUNT_BIG(); \
         EXEC {} {}; SELECT @dmg_count AS n",
        sink.column_list(),
        sink.staging_quoted(),
        checked_name(&procedure.name)?,
        arguments.join(", ")
    ))
}

/// A parameter with its `@`. It cannot be quoted, so only letters of names may be in it.
pub(super) fn parameter_name(name: &str) -> Result<String> {
    let bare = name.strip_prefix('@').unwrap_or(name);
    let letters = |c: char| c.is_alphanumeric() || matches!(c, '_' | '@' | '$' | '#');
    if bare.is_empty() || bare.chars().count() > 127 || !bare.chars().all(letters) {
        let message = format!("\"{name}\" is no name of a parameter.");
        let remedy = "Write it as the procedure declares it, without the @.";
        return Err(Fault::new("UserErrorSettings", message).remedy(remedy).into());
    }
    Ok(format!("@{bare}"))
}
