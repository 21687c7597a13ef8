//! The server's functions: what each becomes in SQLite's SQL, or the value it has for the session.

use super::catalog;
use super::emit::{Emit, common_of};
use super::parse::{Parsed, Parser};
use super::scope::{Piece, Scope};
use super::tree::{CallExtra, Expr, Name};
use crate::errors::SqlError;
use crate::types::{Collation, MAX, Type};
use crate::value::Value;

const SYSNAME: Type = Type::NVarChar(128);

impl Emit<'_> {
    pub(crate) fn call(
        &mut self,
        name: &Name,
        arguments: &[Expr],
        extra: &CallExtra,
        scope: &Scope<'_>,
    ) -> Parsed<Piece> {
        let upper = name.object.to_ascii_uppercase();
        if extra.over.is_some()
            || matches!(upper.as_str(), "COUNT" | "COUNT_BIG" | "SUM" | "AVG" | "MIN" | "MAX" | "STRING_AGG")
        {
            return self.aggregate(&upper, arguments, extra, scope);
        }
        if let Some(piece) = self.general(&upper, arguments, scope)? {
            return Ok(piece);
        }
        if let Some(piece) = self.text_call(&upper, arguments, scope)? {
            return Ok(piece);
        }
        if let Some(piece) = self.number_or_time(&upper, arguments, scope)? {
            return Ok(piece);
        }
        if let Some(piece) = self.lookup(&upper, arguments, scope)? {
            return Ok(piece);
        }
        let (value, ty) = self.about_session(&upper, arguments)?;
        Ok(Piece::new(self.bind(value), ty))
    }

    fn pieces(&mut self, arguments: &[Expr], scope: &Scope<'_>) -> Parsed<Vec<Piece>> {
        arguments.iter().map(|argument| self.expr(argument, scope)).collect()
    }

    fn aggregate(&mut self, name: &str, arguments: &[Expr], extra: &CallExtra, scope: &Scope<'_>) -> Parsed<Piece> {
        let distinct = if extra.distinct { "DISTINCT " } else { "" };
        let mut pieces = self.pieces(arguments, scope)?;
        let first = pieces.first().cloned();
        let need =
            || first.clone().ok_or_else(|| SqlError::new(174, format!("The {name} function requires 1 argument(s).")));
        let (sql, ty) = match name {
            "COUNT" | "COUNT_BIG" => {
                let inner = if extra.star { "*".to_owned() } else { need()?.collated() };
                (format!("count({distinct}{inner})"), if name == "COUNT" { Type::Int } else { Type::BigInt })
            }
            "SUM" | "AVG" => {
                let piece = need()?;
                let ty = match &piece.ty {
                    Type::Bit | Type::TinyInt | Type::SmallInt | Type::Int => Type::Int,
                    Type::Real | Type::Float => Type::Float,
                    Type::Decimal { scale, .. } => Type::Decimal { precision: 38, scale: *scale, numeric: true },
                    Type::SmallMoney => Type::Money,
                    other if matches!(other, Type::BigInt | Type::Money) => other.clone(),
                    other => {
                        return Err(SqlError::new(
                            8117,
                            format!("Operand data type {} is invalid for sum operator.", other.name()),
                        ));
                    }
                };
                let sum = if ty.is_exact() { "tds_sum" } else { "sum" };
                let total = format!("{sum}({distinct}{})", piece.sql);
                let checked = format!("tds_cast({total}, {}, {}, 0, 0)", wide_of(&ty).interned(), ty.interned());
                if name == "SUM" {
                    (checked, ty)
                } else {
                    let count = format!("count({distinct}{})", piece.sql);
                    let result = match &ty {
                        Type::Decimal { scale, .. } => {
                            Type::Decimal { precision: 38, scale: (*scale).max(6), numeric: true }
                        }
                        other => other.clone(),
                    };
                    (format!("tds_arith('/', {total}, nullif({count}, 0), {})", result.interned()), result)
                }
            }
            "MIN" | "MAX" => {
                let piece = need()?;
                let lower = name.to_lowercase();
                let collation = piece.collation;
                let sql = format!("{lower}({distinct}{})", piece.collated());
                return self.windowed(Piece { collation, ..Piece::new(sql, piece.ty) }, extra, scope);
            }
            "STRING_AGG" => {
                let text = self.cast(need()?, &Type::NVarChar(MAX), 0);
                let separator = pieces.pop().map_or_else(|| "''".to_owned(), |piece| piece.sql);
                (format!("group_concat({}, {separator})", text.sql), Type::NVarChar(MAX))
            }
            "ROW_NUMBER" | "RANK" | "DENSE_RANK" => (format!("{}()", name.to_lowercase()), Type::BigInt),
            "NTILE" => (format!("ntile({})", need()?.sql), Type::BigInt),
            _ => return Err(SqlError::new(195, format!("'{name}' is not a recognized built-in function name."))),
        };
        self.windowed(Piece::new(sql, ty), extra, scope)
    }

    fn windowed(&mut self, piece: Piece, extra: &CallExtra, scope: &Scope<'_>) -> Parsed<Piece> {
        let Some((partition, order)) = &extra.over else { return Ok(piece) };
        let mut parts = Vec::new();
        if !partition.is_empty() {
            let terms: Parsed<Vec<String>> =
                partition.iter().map(|expr| Ok(self.expr(expr, scope)?.collated())).collect();
            parts.push(format!("PARTITION BY {}", terms?.join(", ")));
        }
        if !order.is_empty() {
            let terms: Parsed<Vec<String>> = order
                .iter()
                .map(|(expr, descending)| {
                    Ok(format!("{}{}", self.expr(expr, scope)?.collated(), if *descending { " DESC" } else { "" }))
                })
                .collect();
            parts.push(format!("ORDER BY {}", terms?.join(", ")));
        }
        Ok(Piece { sql: format!("({} OVER ({}))", piece.sql, parts.join(" ")), ..piece })
    }

    fn general(&mut self, name: &str, arguments: &[Expr], scope: &Scope<'_>) -> Parsed<Option<Piece>> {
        Ok(Some(match (name, arguments) {
            ("ISNULL", [a, b]) => {
                let (a, b) = (self.expr(a, scope)?, self.expr(b, scope)?);
                let ty = if a.untyped { b.ty.clone() } else { a.ty.clone() };
                let (collation, nullable) = (a.collation, b.nullable);
                let (a, b) = (self.cast(a, &ty, 0), self.cast(b, &ty, 0));
                Piece { collation, nullable, ..Piece::new(format!("ifnull({}, {})", a.sql, b.sql), ty) }
            }
            ("COALESCE", all) if all.len() > 1 => {
                let pieces = self.pieces(all, scope)?;
                let ty = common_of(&pieces)?;
                let nullable = pieces.iter().all(|piece| piece.nullable);
                let sql: Vec<String> = pieces.into_iter().map(|piece| self.cast(piece, &ty, 0).sql).collect();
                Piece { nullable, ..Piece::new(format!("coalesce({})", sql.join(", ")), ty) }
            }
            ("NULLIF", [a, b]) => {
                let (a, b) = (self.expr(a, scope)?, self.expr(b, scope)?);
                let ty = a.ty.clone();
                let keep = a.sql.clone();
                let (a, b, collate) = self.comparable(a, b)?;
                Piece::new(format!("(CASE WHEN {a} = {b}{collate} THEN NULL ELSE {keep} END)"), ty)
            }
            ("IIF", [condition, yes, no]) => {
                let case = Expr::Case(None, vec![(condition.clone(), yes.clone())], Some(Box::new(no.clone())));
                self.expr(&case, scope)?
            }
            ("NEWID" | "NEWSEQUENTIALID", []) => Piece::new("tds_newid()", Type::Guid).not_null(),
            ("RAND", _) => Piece::new("(abs(random()) / 9223372036854775808.0)", Type::Float),
            ("CHECKSUM" | "BINARY_CHECKSUM", all) => {
                let pieces = self.pieces(all, scope)?;
                let list: Vec<String> = pieces.into_iter().map(|piece| piece.sql).collect();
                Piece::new(format!("tds_checksum({})", list.join(", ")), Type::Int)
            }
            ("SQL_VARIANT_PROPERTY", [value, property]) => {
                let (value, property) = (self.expr(value, scope)?, self.expr(property, scope)?);
                let value = self.cast(value, &Type::Variant, 0);
                Piece::new(format!("tds_text('variant', {}, {})", value.sql, property.sql), SYSNAME)
            }
            _ => return Ok(None),
        }))
    }

    fn text_call(&mut self, name: &str, arguments: &[Expr], scope: &Scope<'_>) -> Parsed<Option<Piece>> {
        let (function, ty) = match name {
            "LEN" => ("len", Some(Type::Int)),
            "UPPER" => ("upper", None),
            "LOWER" => ("lower", None),
            "LTRIM" => ("ltrim", None),
            "RTRIM" => ("rtrim", None),
            "TRIM" => ("trim", None),
            "REVERSE" => ("reverse", None),
            "LEFT" => ("left", None),
            "RIGHT" => ("right", None),
            "SUBSTRING" => ("substring", None),
            "REPLACE" => ("replace", Some(Type::NVarChar(4000))),
            "CHARINDEX" => ("charindex", Some(Type::Int)),
            "QUOTENAME" => ("quotename", Some(Type::NVarChar(258))),
            "REPLICATE" => ("replicate", None),
            "CHAR" => ("char", Some(Type::Char(1))),
            "NCHAR" => ("char", Some(Type::NChar(1))),
            "UNICODE" | "ASCII" => ("unicode", Some(Type::Int)),
            "SPACE" => {
                let [count] = arguments else { return Ok(None) };
                let count = self.expr(count, scope)?.sql;
                return Ok(Some(Piece::new(format!("tds_text('replicate', ' ', {count})"), Type::VarChar(8000))));
            }
            "CONCAT" | "CONCAT_WS" => {
                let pieces = self.pieces(arguments, scope)?;
                let sql: Vec<String> = pieces
                    .into_iter()
                    .map(|piece| format!("ifnull({}, '')", self.cast(piece, &Type::NVarChar(MAX), 0).sql))
                    .collect();
                if name == "CONCAT_WS" {
                    return Err(SqlError::new(195, "'CONCAT_WS' is not a recognized built-in function name."));
                }
                return Ok(Some(Piece::new(format!("({})", sql.join(" || ")), Type::NVarChar(4000))));
            }
            "DATALENGTH" => {
                let [value] = arguments else { return Ok(None) };
                let piece = self.expr(value, scope)?;
                let fixed = !piece.ty.is_text() && !piece.ty.is_bytes() && piece.ty != Type::Variant;
                let sql = if fixed {
                    format!("(CASE WHEN {} IS NULL THEN NULL ELSE {} END)", piece.sql, piece.ty.sizes().0)
                } else {
                    format!("tds_text('bytes', {}, {})", piece.sql, 1 + i32::from(piece.ty.is_unicode()))
                };
                return Ok(Some(Piece::new(sql, Type::Int)));
            }
            _ => return Ok(None),
        };
        let pieces = self.pieces(arguments, scope)?;
        let Some(first) = pieces.first() else { return Ok(None) };
        let collation = first.collation;
        let ty = ty.unwrap_or_else(|| match &first.ty {
            Type::Char(n) if name != "REPLICATE" => Type::VarChar(*n),
            Type::NChar(n) if name != "REPLICATE" => Type::NVarChar(*n),
            ty if name == "REPLICATE" && ty.is_text() => {
                let max = matches!(ty, Type::VarChar(MAX) | Type::NVarChar(MAX));
                match (ty.is_unicode(), max) {
                    (true, true) => Type::NVarChar(MAX),
                    (true, false) => Type::NVarChar(4000),
                    (false, true) => Type::VarChar(MAX),
                    (false, false) => Type::VarChar(8000),
                }
            }
            ty if ty.is_text() => ty.clone(),
            ty if ty.is_bytes() => Type::VarBinary(8000),
            _ => Type::VarChar(8000),
        });
        let takes_text = |at: usize| match name {
            "SUBSTRING" => at == 0 && !first.ty.is_bytes(),
            "CHAR" | "NCHAR" => false,
            "REPLICATE" => at == 0 && !first.ty.is_bytes(),
            "CHARINDEX" => at < 2,
            "LEFT" | "RIGHT" => at == 0,
            _ => true,
        };
        let mut sql = Vec::new();
        for (at, piece) in pieces.iter().cloned().enumerate() {
            let textual = piece.ty.is_text() || !takes_text(at);
            sql.push(if textual { piece.sql } else { self.cast(piece, &Type::NVarChar(MAX), 0).sql });
        }
        Ok(Some(Piece { collation, ..Piece::new(format!("tds_text('{function}', {})", sql.join(", ")), ty) }))
    }

    fn number_or_time(&mut self, name: &str, arguments: &[Expr], scope: &Scope<'_>) -> Parsed<Option<Piece>> {
        let now = |emit: &mut Self, ty: Type| {
            let stored = emit.session.now();
            let value = super::convert::convert(&stored, &Type::DateTimeOffset(7), &ty, 0, super::convert::Why::Cast);
            value.map(|value| Piece::new(emit.bind(value), ty).not_null())
        };
        Ok(Some(match (name, arguments) {
            ("GETDATE" | "GETUTCDATE", []) => now(self, Type::DateTime)?,
            ("SYSDATETIME" | "SYSUTCDATETIME", []) => now(self, Type::DateTime2(7))?,
            ("SYSDATETIMEOFFSET", []) => now(self, Type::DateTimeOffset(7))?,
            ("DATEADD", [part, count, moment]) => {
                let (part, count) = (self.expr(part, scope)?, self.expr(count, scope)?);
                let moment = self.expr(moment, scope)?;
                let ty = if moment.ty.is_text() { Type::DateTime } else { moment.ty.clone() };
                let moment = self.cast(moment, &ty, 0);
                Piece::new(format!("tds_time('add', {}, {}, {})", part.sql, count.sql, moment.sql), ty)
            }
            ("DATEDIFF" | "DATEDIFF_BIG", [part, a, b]) => {
                let part = self.expr(part, scope)?;
                let (a, b) = (self.expr(a, scope)?.sql, self.expr(b, scope)?.sql);
                let ty = if name == "DATEDIFF" { Type::Int } else { Type::BigInt };
                let sql = format!("tds_time('diff', {}, {a}, {b})", part.sql);
                let checked = self.cast(Piece::new(sql, Type::BigInt), &ty, 0);
                Piece::new(checked.sql, ty)
            }
            ("DATEPART", [part, moment]) => {
                let (part, moment) = (self.expr(part, scope)?, self.expr(moment, scope)?);
                Piece::new(format!("tds_time('part', {}, {})", part.sql, moment.sql), Type::Int)
            }
            ("YEAR" | "MONTH" | "DAY", [moment]) => {
                let moment = self.expr(moment, scope)?;
                Piece::new(format!("tds_time('part', '{}', {})", name.to_lowercase(), moment.sql), Type::Int)
            }
            ("ABS", [value]) => {
                let piece = self.expr(value, scope)?;
                let zero = format!("tds_arith('-', 0, {}, {})", piece.sql, piece.ty.interned());
                let negative =
                    if piece.ty.is_exact() { format!("{} LIKE '-%'", piece.sql) } else { format!("{} < 0", piece.sql) };
                Piece::new(format!("(CASE WHEN {negative} THEN {zero} ELSE {} END)", piece.sql), piece.ty)
            }
            ("FLOOR" | "CEILING" | "SIGN" | "SQRT", [value]) => {
                let piece = self.expr(value, scope)?;
                if piece.ty.is_integer() && name != "SQRT" {
                    return Ok(Some(piece));
                }
                let number = self.cast(piece, &Type::Float, 0);
                let function = if name == "CEILING" { "ceil".into() } else { name.to_lowercase() };
                Piece::new(format!("tds_math('{function}', {})", number.sql), Type::Float)
            }
            ("ROUND", [value, digits]) => {
                let piece = self.expr(value, scope)?;
                let digits = Emit::constant(self.session, digits)?.1.to_integer().unwrap_or(0);
                if let Type::Decimal { precision, scale, .. } = piece.ty {
                    let rounded =
                        Type::Decimal { precision: 38, scale: digits.clamp(0, scale.into()) as u8, numeric: true };
                    let cast = self.cast(piece, &rounded, 0);
                    return Ok(Some(self.cast(cast, &Type::Decimal { precision, scale, numeric: true }, 0)));
                }
                if piece.ty.is_integer() {
                    return Ok(Some(piece));
                }
                Piece::new(format!("round({}, {digits})", piece.sql), piece.ty)
            }
            ("ISNUMERIC", [value]) => {
                let piece = self.expr(value, scope)?;
                let sql = format!("tds_cast({}, {}, {}, 0, 2)", piece.sql, piece.ty.interned(), Type::Float.interned());
                Piece::new(format!("({sql} IS NOT NULL)"), Type::Int)
            }
            _ => return Ok(None),
        }))
    }

    /// Names and numbers of objects, which may be asked for per row.
    fn lookup(&mut self, name: &str, arguments: &[Expr], scope: &Scope<'_>) -> Parsed<Option<Piece>> {
        let (sql, ty) = match (name, arguments) {
            ("SCHEMA_NAME", [id]) => (("SELECT name FROM fx_schemas WHERE schema_id = $1", id), SYSNAME),
            ("OBJECT_NAME", [id] | [id, _]) => (("SELECT name FROM fx_objects WHERE object_id = $1", id), SYSNAME),
            ("OBJECT_SCHEMA_NAME", [id] | [id, _]) => {
                (("SELECT schema FROM fx_objects WHERE object_id = $1", id), SYSNAME)
            }
            ("OBJECT_DEFINITION", [id]) => {
                (("SELECT definition FROM fx_objects WHERE object_id = $1", id), Type::NVarChar(MAX))
            }
            ("TYPE_NAME", [id]) => (("SELECT name FROM fx_types WHERE user_type_id = $1", id), SYSNAME),
            ("SCHEMA_ID", [name]) => (("SELECT schema_id FROM fx_schemas WHERE name = $1", name), Type::Int),
            ("TYPE_ID", [name]) => (("SELECT user_type_id FROM fx_types WHERE name = $1", name), Type::Int),
            ("COL_NAME", [table, column]) => {
                let table = self.expr(table, scope)?.sql;
                let column = self.expr(column, scope)?.sql;
                let sql = format!("(SELECT name FROM fx_columns WHERE object_id = {table} AND column_id = {column})");
                return Ok(Some(Piece::new(sql, SYSNAME)));
            }
            ("COLUMNPROPERTY", [table, column, property]) => {
                let property = Emit::constant(self.session, property)?.1.to_text().to_ascii_lowercase();
                let what = match property.as_str() {
                    "isidentity" => "identity",
                    "iscomputed" => "computed_text IS NOT NULL",
                    "allowsnull" => "nullable",
                    "columnid" => "column_id",
                    "issparse" => "sparse",
                    _ => "NULL",
                };
                let (table, column) = (self.expr(table, scope)?.sql, self.expr(column, scope)?.sql);
                let sql = format!("(SELECT {what} FROM fx_columns WHERE object_id = {table} AND name = {column})");
                return Ok(Some(Piece::new(sql, Type::Int)));
            }
            ("OBJECTPROPERTY" | "OBJECTPROPERTYEX", [table, property]) => {
                let property = Emit::constant(self.session, property)?.1.to_text().to_ascii_lowercase();
                let what = match property.as_str() {
                    "istable" | "isusertable" => "type = 'U'",
                    "isview" => "type = 'V'",
                    "isprocedure" => "type = 'P'",
                    "tablehasidentity" => {
                        "(SELECT count(*) > 0 FROM fx_columns c WHERE c.object_id = fx_objects.object_id AND c.identity)"
                    }
                    "tablehasprimarykey" => {
                        "(SELECT count(*) > 0 FROM fx_indexes i WHERE i.object_id = fx_objects.object_id AND i.is_primary)"
                    }
                    "ismsshipped" => "0",
                    _ => "NULL",
                };
                let table = self.expr(table, scope)?.sql;
                return Ok(Some(Piece::new(
                    format!("(SELECT {what} FROM fx_objects WHERE object_id = {table})"),
                    Type::Int,
                )));
            }
            _ => return Ok(None),
        };
        let (sql, argument) = sql;
        let argument = self.expr(argument, scope)?.sql;
        Ok(Some(Piece::new(format!("({})", sql.replace("$1", &argument)), ty)))
    }

    /// What depends on the session and on arguments that are no columns.
    fn about_session(&mut self, name: &str, arguments: &[Expr]) -> Parsed<(Value, Type)> {
        let session = self.session;
        let mut values = Vec::new();
        for argument in arguments {
            values.push(Emit::constant(session, argument)?.1);
        }
        let text = |at: usize| values.get(at).map(Value::to_text).unwrap_or_default();
        let number = |value: Option<i64>| value.map_or(Value::Null, Value::Integer);
        Ok(match name {
            "OBJECT_ID" => {
                let kind = values.get(1).map(Value::to_text);
                (number(catalog::object_id(session, &text(0), kind.as_deref())?), Type::Int)
            }
            "DB_NAME" => (Value::text(&session.database), SYSNAME),
            "DB_ID" => {
                let wanted = if values.is_empty() { session.database.clone() } else { text(0) };
                let known = session.server.databases.lock().expect("no holder of this lock can panic");
                let at = known.iter().position(|name| name.eq_ignore_ascii_case(&wanted));
                (number(at.map(|at| at as i64 + 1)), Type::SmallInt)
            }
            "SCHEMA_NAME" => (Value::text("dbo"), SYSNAME),
            "SCHEMA_ID" => (Value::Integer(1), Type::Int),
            "SUSER_SNAME" | "SUSER_NAME" | "ORIGINAL_LOGIN" => (Value::text(&session.login), SYSNAME),
            "USER_NAME" => (Value::text("dbo"), SYSNAME),
            "USER_ID" | "DATABASE_PRINCIPAL_ID" => (Value::Integer(1), Type::Int),
            "HOST_NAME" => (Value::text(&session.host), SYSNAME),
            "APP_NAME" | "PROGRAM_NAME" => (Value::text(&session.program), SYSNAME),
            "SERVERPROPERTY" => server_property(&text(0), session.server.options.engine_edition),
            "DATABASEPROPERTYEX" => match text(1).to_ascii_lowercase().as_str() {
                "collation" => (Value::text(Collation::default().name()), SYSNAME),
                "updateability" => (Value::text("READ_WRITE"), SYSNAME),
                "status" => (Value::text("ONLINE"), SYSNAME),
                "edition" => (Value::text("Standard"), SYSNAME),
                _ => (Value::Null, SYSNAME),
            },
            "CONNECTIONPROPERTY" => match text(0).to_ascii_lowercase().as_str() {
                "net_transport" => (Value::text("TCP"), SYSNAME),
                "auth_scheme" => (Value::text("SQL"), SYSNAME),
                _ => (Value::Null, SYSNAME),
            },
            "SCOPE_IDENTITY" => {
                let ty = Type::Decimal { precision: 38, scale: 0, numeric: true };
                (session.identity.map_or(Value::Null, |value| Value::text(value.to_string())), ty)
            }
            "IDENT_CURRENT" | "IDENT_SEED" | "IDENT_INCR" => {
                let found = Parser::new(&text(0)).and_then(|mut parser| parser.name());
                let table = catalog::find(session, &found?)?;
                let value = table.and_then(|table| {
                    let (seed, step) = table.columns.iter().find_map(|column| column.identity)?;
                    Some(match name {
                        "IDENT_SEED" => seed,
                        "IDENT_INCR" => step,
                        _ => session.server.last_identity(&session.database, table.object_id).unwrap_or(seed),
                    })
                });
                let ty = Type::Decimal { precision: 38, scale: 0, numeric: true };
                (value.map_or(Value::Null, |value| Value::text(value.to_string())), ty)
            }
            "ROWCOUNT_BIG" => (Value::Integer(session.row_count as i64), Type::BigInt),
            "XACT_STATE" => {
                let state = if session.transactions == 0 {
                    0
                } else if session.doomed {
                    -1
                } else {
                    1
                };
                (Value::Integer(state), Type::SmallInt)
            }
            "ERROR_NUMBER" => (number(session.caught.as_ref().map(|error| error.number.into())), Type::Int),
            "ERROR_SEVERITY" => (number(session.caught.as_ref().map(|error| error.class.into())), Type::Int),
            "ERROR_STATE" => (number(session.caught.as_ref().map(|error| error.state.into())), Type::Int),
            "ERROR_LINE" => (number(session.caught.as_ref().map(|error| error.line.into())), Type::Int),
            "ERROR_MESSAGE" => {
                (session.caught.as_ref().map_or(Value::Null, |error| Value::text(&error.message)), Type::NVarChar(4000))
            }
            "ERROR_PROCEDURE" => (Value::Null, SYSNAME),
            "HAS_PERMS_BY_NAME" | "IS_MEMBER" | "IS_SRVROLEMEMBER" | "IS_ROLEMEMBER" | "HAS_DBACCESS" => {
                (Value::Integer(1), Type::Int)
            }
            "APPLOCK_MODE" => (Value::text(session.lock_mode(&text(1))), SYSNAME),
            "CONTEXT_INFO" => (Value::Null, Type::VarBinary(128)),
            "CURRENT_TRANSACTION_ID" => (Value::Integer(session.transaction_id), Type::BigInt),
            _ => return Err(SqlError::new(195, format!("'{name}' is not a recognized built-in function name."))),
        })
    }
}

fn wide_of(ty: &Type) -> Type {
    match ty {
        Type::Int | Type::BigInt => Type::BigInt,
        other => other.clone(),
    }
}

fn server_property(name: &str, edition: i64) -> (Value, Type) {
    let text = |text: &str| (Value::text(text), SYSNAME);
    match name.to_ascii_lowercase().as_str() {
        "productversion" => text("16.0.1000.6"),
        "productmajorversion" => text("16"),
        "productlevel" => text("RTM"),
        "edition" => text("Developer Edition (64-bit)"),
        "engineedition" => (Value::Integer(edition), Type::Int),
        "servername" | "machinename" => text("fixture"),
        "instancename" => (Value::Null, SYSNAME),
        "collation" => text(Collation::default().name()),
        "isintegratedsecurityonly" | "isclustered" | "ishadrenabled" | "issingleuser" => (Value::Integer(0), Type::Int),
        _ => (Value::Null, SYSNAME),
    }
}
