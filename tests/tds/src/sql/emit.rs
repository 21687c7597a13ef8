//! Expressions to SQLite's SQL, with the types worked out as the server would.

use super::parse::Parsed;
use super::scope::{Piece, Scope};
use super::tree::*;
use crate::errors::SqlError;
use crate::session::Session;
use crate::types::{Collation, MAX, Type};
use crate::value::Value;

/// One statement in the making.
pub(crate) struct Emit<'a> {
    pub(crate) session: &'a Session,
    pub(crate) params: Vec<Value>,
    /// Common table expressions in sight.
    pub(crate) with: Vec<(String, Vec<crate::out::Column>)>,
    pub(crate) aliases: u32,
}

impl<'a> Emit<'a> {
    pub(crate) fn new(session: &'a Session) -> Self {
        Self { session, params: Vec::new(), with: Vec::new(), aliases: 0 }
    }

    pub(crate) fn bind(&mut self, value: Value) -> String {
        self.params.push(value);
        format!("?{}", self.params.len())
    }

    pub(crate) fn expr(&mut self, expr: &Expr, scope: &Scope<'_>) -> Parsed<Piece> {
        match expr {
            Expr::Literal(value, ty) => Ok(self.literal(value, ty)),
            Expr::Variable(name) => self.variable(name),
            Expr::Column(parts) => scope.column(parts),
            Expr::Collate(inner, collation) => {
                let piece = self.expr(inner, scope)?;
                Ok(Piece { collation: *collation, explicit: true, column: None, ..piece })
            }
            Expr::Unary(sign, inner) => {
                let piece = self.expr(inner, scope)?;
                let zero = Piece::new("0", Type::Int);
                if *sign == "~" {
                    return Ok(Piece { sql: format!("(~{})", piece.sql), column: None, ..piece });
                }
                self.arithmetic("-", zero, piece)
            }
            Expr::Binary(sign @ ("+" | "-" | "*" | "/" | "%" | "&" | "|" | "^"), a, b) => {
                let (a, b) = (self.expr(a, scope)?, self.expr(b, scope)?);
                self.arithmetic(sign, a, b)
            }
            Expr::Binary(sign, a, b) => {
                let (a, b) = (self.expr(a, scope)?, self.expr(b, scope)?);
                let (a, b, collate) = self.comparable(a, b)?;
                Ok(truth(format!("({a} {sign} {b}{collate})")))
            }
            Expr::And(parts) => self.all(parts, " AND ", scope),
            Expr::Or(parts) => self.all(parts, " OR ", scope),
            Expr::Not(inner) => {
                let piece = self.expr(inner, scope)?;
                Ok(truth(format!("(NOT {})", piece.sql)))
            }
            Expr::IsNull(inner, not) => {
                let piece = self.expr(inner, scope)?;
                Ok(truth(format!("({} IS {}NULL)", piece.sql, if *not { "NOT " } else { "" })))
            }
            Expr::Between(value, low, high, not) => {
                let value_of =
                    |sign| Expr::Binary(sign, value.clone(), if sign == ">=" { low.clone() } else { high.clone() });
                let both = Expr::And(vec![value_of(">="), value_of("<=")]);
                self.expr(&if *not { Expr::Not(Box::new(both)) } else { both }, scope)
            }
            Expr::In(value, list, not) => {
                let any = Expr::Or(
                    list.iter().map(|item| Expr::Binary("=", value.clone(), Box::new(item.clone()))).collect(),
                );
                self.expr(&if *not { Expr::Not(Box::new(any)) } else { any }, scope)
            }
            Expr::InQuery(value, query, not) => {
                let value = self.expr(value, scope)?;
                let (sql, columns) = self.query(query, Some(scope))?;
                let [column] = columns.as_slice() else {
                    return Err(SqlError::new(116, "Only one expression can be specified in the select list."));
                };
                let inner = Piece::new("\"v\"", column.ty.clone());
                let (a, b, collate) = self.comparable(value, inner)?;
                let not = if *not { "NOT " } else { "" };
                Ok(truth(format!("({a}{collate} {not}IN (WITH \"q\"(\"v\") AS ({sql}) SELECT {b} FROM \"q\"))")))
            }
            Expr::Like(value, pattern, escape, not) => self.like(value, pattern, escape.as_deref(), *not, scope),
            Expr::Exists(query) => {
                let (sql, _) = self.query(query, Some(scope))?;
                Ok(truth(format!("EXISTS ({sql})")))
            }
            Expr::Scalar(query) => {
                let (sql, columns) = self.query(query, Some(scope))?;
                let [column] = columns.as_slice() else {
                    return Err(SqlError::new(116, "Only one expression can be specified in the select list."));
                };
                Ok(Piece { collation: column.collation, ..Piece::new(format!("({sql})"), column.ty.clone()) })
            }
            Expr::Case(subject, branches, otherwise) => {
                self.case(subject.as_deref(), branches, otherwise.as_deref(), scope)
            }
            Expr::Cast(inner, ty, style, lenient) => {
                let piece = self.expr(inner, scope)?;
                // A length left out is 30 in a conversion.
                let ty = match ty {
                    Type::VarChar(1) if matches!(piece.ty, Type::VarChar(1) | Type::Char(1)) => ty.clone(),
                    other => other.clone(),
                };
                let collation = piece.collation;
                let cast = self.cast_styled(piece, &ty, *style, if *lenient { 2 } else { 0 });
                Ok(Piece { collation, ..cast })
            }
            Expr::Call(name, arguments, extra) => self.call(name, arguments, extra, scope),
            Expr::Default => Err(SqlError::syntax("DEFAULT")),
        }
    }

    fn literal(&mut self, value: &Value, ty: &Type) -> Piece {
        match value {
            Value::Null => Piece { untyped: true, ..Piece::new("NULL", ty.clone()) },
            Value::Integer(number) => Piece::new(number.to_string(), ty.clone()).not_null(),
            other => Piece::new(self.bind(other.clone()), ty.clone()).not_null(),
        }
    }

    fn variable(&mut self, name: &str) -> Parsed<Piece> {
        if name.starts_with("@@") {
            let (value, ty) = self.session.global(name)?;
            return Ok(Piece::new(self.bind(value), ty));
        }
        let Some((ty, value)) = self.session.variable(name) else {
            return Err(SqlError::new(137, format!("Must declare the scalar variable \"{name}\".")));
        };
        Ok(Piece::new(self.bind(value), ty))
    }

    fn all(&mut self, parts: &[Expr], word: &str, scope: &Scope<'_>) -> Parsed<Piece> {
        let mut sql = Vec::new();
        for part in parts {
            sql.push(self.expr(part, scope)?.sql);
        }
        Ok(truth(format!("({})", sql.join(word))))
    }

    fn like(
        &mut self,
        value: &Expr,
        pattern: &Expr,
        escape: Option<&Expr>,
        not: bool,
        scope: &Scope<'_>,
    ) -> Parsed<Piece> {
        let value = self.expr(value, scope)?;
        let folds = i32::from(matches!(value.collation, Collation::Ignoring | Collation::Utf8));
        let value = self.cast(value, &Type::NVarChar(MAX), 0);
        let pattern = self.expr(pattern, scope)?;
        let pattern = self.cast(pattern, &Type::NVarChar(MAX), 0);
        let escape = match escape {
            Some(escape) => self.expr(escape, scope)?.sql,
            None => "''".to_owned(),
        };
        let not = if not { "NOT " } else { "" };
        Ok(truth(format!("({not}tds_text('like', {}, {}, {escape}, {folds}))", value.sql, pattern.sql)))
    }

    fn case(
        &mut self,
        subject: Option<&Expr>,
        branches: &[(Expr, Expr)],
        otherwise: Option<&Expr>,
        scope: &Scope<'_>,
    ) -> Parsed<Piece> {
        let mut conditions = Vec::new();
        let mut values = Vec::new();
        for (condition, value) in branches {
            let condition = match subject {
                Some(subject) => Expr::Binary("=", Box::new(subject.clone()), Box::new(condition.clone())),
                None => condition.clone(),
            };
            conditions.push(self.expr(&condition, scope)?.sql);
            values.push(self.expr(value, scope)?);
        }
        values.push(match otherwise {
            Some(otherwise) => self.expr(otherwise, scope)?,
            None => Piece { untyped: true, ..Piece::new("NULL", Type::Int) },
        });
        let ty = common_of(&values)?;
        let collation = values[0].collation;
        let nullable = values.iter().any(|value| value.nullable);
        let mut sql = "CASE".to_owned();
        let last = values.pop().expect("the ELSE branch");
        for (condition, value) in conditions.into_iter().zip(values) {
            sql.push_str(&format!(" WHEN {condition} THEN {}", self.cast(value, &ty, 0).sql));
        }
        sql.push_str(&format!(" ELSE {} END", self.cast(last, &ty, 0).sql));
        Ok(Piece { collation, nullable, ..Piece::new(format!("({sql})"), ty) })
    }

    /// To a type, as a cast or, with mode 1, as an assignment.
    pub(crate) fn cast(&mut self, piece: Piece, to: &Type, mode: i64) -> Piece {
        self.cast_styled(piece, to, 0, mode)
    }

    fn cast_styled(&mut self, piece: Piece, to: &Type, style: i64, mode: i64) -> Piece {
        if piece.untyped {
            return Piece::new("NULL", to.clone());
        }
        if piece.ty == *to && style == 0 {
            return Piece { column: None, ..piece };
        }
        let sql = format!("tds_cast({}, {}, {}, {style}, {mode})", piece.sql, piece.ty.interned(), to.interned());
        let nullable = piece.nullable || mode == 2;
        Piece { nullable, collation: piece.collation, ..Piece::new(sql, to.clone()) }
    }

    /// Both sides as one type, and the collation they compare by.
    pub(crate) fn comparable(&mut self, a: Piece, b: Piece) -> Parsed<(String, String, String)> {
        let ty = common(&a, &b)?;
        // A column keeps its collation against a literal or a variable.
        let first = a.explicit || !b.explicit && (a.column.is_some() || b.column.is_none());
        let collation = if first { a.collation } else { b.collation };
        let collate = ty.sqlite_collation(collation).map_or_else(String::new, |name| format!(" COLLATE {name}"));
        let side = |emit: &mut Self, piece: Piece| {
            // Texts of several lengths compare as they are.
            if piece.ty.is_text() && ty.is_text()
                || piece.ty.is_bytes() && ty.is_bytes()
                || piece.ty.is_exact() && ty.is_exact()
            {
                piece.sql
            } else {
                emit.cast(piece, &ty, 0).sql
            }
        };
        Ok((side(self, a), side(self, b), collate))
    }

    fn arithmetic(&mut self, sign: &str, a: Piece, b: Piece) -> Parsed<Piece> {
        let ty = common(&a, &b)?;
        let nullable = a.nullable || b.nullable;
        if sign == "+" && (ty.is_text() || ty.is_bytes()) {
            let length = |ty: &Type| match ty {
                Type::Char(n)
                | Type::VarChar(n)
                | Type::NChar(n)
                | Type::NVarChar(n)
                | Type::Binary(n)
                | Type::VarBinary(n) => *n,
                _ => MAX,
            };
            let longest = if ty.is_unicode() { 4000 } else { 8000 };
            let (first, second) = (length(&a.ty), length(&b.ty));
            let size = if first == MAX || second == MAX { MAX } else { first.saturating_add(second).min(longest) };
            let collation = a.collation;
            let sql = format!("({} || {})", a.sql, b.sql);
            let (sql, ty) = if ty.is_bytes() {
                (format!("CAST({sql} AS BLOB)"), Type::VarBinary(size))
            } else if ty.is_unicode() {
                (sql, Type::NVarChar(size))
            } else {
                (sql, Type::VarChar(size))
            };
            return Ok(Piece { nullable, collation, ..Piece::new(sql, ty) });
        }
        // Numbers of days on a datetime.
        if matches!(ty, Type::DateTime | Type::SmallDateTime) && matches!(sign, "+" | "-") {
            let (moment, days) = if a.ty == ty { (a, b) } else { (b, a) };
            let signed = if sign == "-" { format!("-({})", days.sql) } else { days.sql };
            return Ok(Piece::new(format!("tds_time('add', 'day', {signed}, {})", moment.sql), ty));
        }
        let result = match (&ty, sign) {
            (Type::Decimal { .. }, _) => decimal_result(sign, &exact_of(&a), &exact_of(&b)),
            (ty, _) if ty.is_text() => {
                return Err(SqlError::new(
                    402,
                    format!("The data types {} and {} are incompatible in the operator.", a.ty.name(), b.ty.name()),
                ));
            }
            (ty, _) => ty.clone(),
        };
        // Exact operands keep their own digits, so that no precision goes before the operation.
        let side = |emit: &mut Self, piece: Piece| {
            if result.is_exact() && (piece.ty.is_exact() || piece.ty.is_integer()) || piece.ty == result {
                piece.sql
            } else {
                emit.cast(piece, &ty, 0).sql
            }
        };
        let (a, b) = (side(self, a), side(self, b));
        let sql = format!("tds_arith('{sign}', {a}, {b}, {})", result.interned());
        Ok(Piece { nullable, ..Piece::new(sql, result) })
    }

    /// A value that depends on no row.
    pub(crate) fn constant(session: &Session, expr: &Expr) -> Parsed<(Type, Value)> {
        let mut emit = Emit::new(session);
        let piece = emit.expr(expr, &Scope::default())?;
        if piece.untyped {
            return Ok((Type::Int, Value::Null));
        }
        let mut statement = session.db.prepare_cached(&format!("SELECT {}", piece.sql)).map_err(SqlError::from)?;
        for (at, value) in emit.params.iter().enumerate() {
            statement.raw_bind_parameter(at + 1, value).map_err(SqlError::from)?;
        }
        let mut rows = statement.raw_query();
        let row = rows.next().map_err(SqlError::from)?.ok_or_else(|| SqlError::syntax("SELECT"))?;
        Ok((piece.ty, Value::of(row.get_ref(0).map_err(SqlError::from)?)))
    }
}

pub(crate) fn truth(sql: String) -> Piece {
    Piece::new(sql, Type::Bit)
}

fn exact_of(piece: &Piece) -> (u8, u8) {
    match &piece.ty {
        Type::Decimal { precision, scale, .. } => (*precision, *scale),
        Type::Money => (19, 4),
        Type::SmallMoney => (10, 4),
        Type::BigInt => (19, 0),
        Type::Int => (10, 0),
        Type::SmallInt => (5, 0),
        Type::TinyInt => (3, 0),
        Type::Bit => (1, 0),
        _ => (38, 6),
    }
}

fn decimal_result(sign: &str, a: &(u8, u8), b: &(u8, u8)) -> Type {
    let (p1, s1, p2, s2) = (i32::from(a.0), i32::from(a.1), i32::from(b.0), i32::from(b.1));
    let (precision, scale) = match sign {
        "*" => (p1 + p2 + 1, s1 + s2),
        "/" => {
            let scale = 6.max(s1 + p2 + 1);
            (p1 - s1 + s2 + scale, scale)
        }
        "%" => ((p1 - s1).min(p2 - s2) + s1.max(s2), s1.max(s2)),
        _ => (s1.max(s2) + (p1 - s1).max(p2 - s2) + 1, s1.max(s2)),
    };
    let scale = if precision > 38 { (scale - (precision - 38)).max(scale.min(6)) } else { scale };
    Type::Decimal { precision: precision.clamp(1, 38) as u8, scale: scale.clamp(0, 38) as u8, numeric: true }
}

pub(crate) fn common(a: &Piece, b: &Piece) -> Parsed<Type> {
    if a.untyped {
        return Ok(b.ty.clone());
    }
    if b.untyped {
        return Ok(a.ty.clone());
    }
    common_type(a, b)
}

pub(crate) fn common_of(pieces: &[Piece]) -> Parsed<Type> {
    let mut typed = pieces.iter().filter(|piece| !piece.untyped).cloned();
    let Some(mut first) = typed.next() else { return Ok(Type::Int) };
    for piece in typed {
        first.ty = common_type(&first, &piece)?;
    }
    Ok(first.ty)
}

fn common_type(a: &Piece, b: &Piece) -> Parsed<Type> {
    if a.ty == b.ty {
        return Ok(a.ty.clone());
    }
    let (high, low) = if a.ty.precedence() >= b.ty.precedence() { (&a.ty, &b.ty) } else { (&b.ty, &a.ty) };
    Ok(match (high, low) {
        (Type::Decimal { .. }, low) if low.is_exact() || low.is_integer() => {
            let ((p1, s1), (p2, s2)) = (exact_of(a), exact_of(b));
            let scale = s1.max(s2);
            let precision = ((p1 - s1).max(p2 - s2) + scale).min(38);
            Type::Decimal { precision, scale: scale.min(precision), numeric: true }
        }
        (Type::NVarChar(_) | Type::NChar(_) | Type::VarChar(_) | Type::Char(_), low) if low.is_text() => {
            let length = |ty: &Type| match ty {
                Type::Char(n) | Type::VarChar(n) | Type::NChar(n) | Type::NVarChar(n) => *n,
                _ => MAX,
            };
            let size = length(high).max(length(low));
            let size = if size == MAX { MAX } else { size };
            if high.is_unicode() {
                Type::NVarChar(if size == MAX { MAX } else { size.min(4000) })
            } else {
                Type::VarChar(size)
            }
        }
        (Type::VarBinary(_) | Type::Binary(_), low) if low.is_bytes() => {
            let length = |ty: &Type| match ty {
                Type::Binary(n) | Type::VarBinary(n) => *n,
                _ => MAX,
            };
            Type::VarBinary(length(high).max(length(low)))
        }
        (Type::DateTime2(x), Type::DateTime2(y)) => Type::DateTime2(*x.max(y)),
        (Type::DateTimeOffset(x), Type::DateTimeOffset(y)) => Type::DateTimeOffset(*x.max(y)),
        (Type::Time(x), Type::Time(y)) => Type::Time(*x.max(y)),
        (Type::DateTimeOffset(_), Type::DateTime2(_) | Type::DateTime) => Type::DateTimeOffset(7),
        (Type::DateTime2(_), Type::DateTime | Type::SmallDateTime | Type::Date) => Type::DateTime2(7),
        (Type::Guid, low) if low.is_text() => Type::Guid,
        (high, _) => high.clone(),
    })
}
