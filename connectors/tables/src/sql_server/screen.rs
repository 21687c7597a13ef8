//! Finds the staged rows that the target's constraints would refuse, by queries over the staging table: what the catalog
//! says of checks, foreign keys and unique indexes becomes one statement each. A rule that speaks of a column the server
//! fills, or that a query cannot follow, is left to the commit, which then fails as a whole.

use dmg_connector::{ROW_COLUMN, Refused, Result, Rule};
use dmg_protocol::{Kind, WriteMode};

use super::catalog::{Readable, literal, quoted, texts};
use super::commit::LOCK_SECONDS;
use super::driver::Driver;
use super::encode::{Fit, Taker};
use super::publish::{self, count};
use super::write::SqlServerSink;
use crate::screen::{self, Held, REFUSED_COLUMN, Rounds};

/// Name of the staging table's index by number of row.
const INDEX: &str = "__dmg_row";

/// What is added to the staging table's definition.
pub(super) fn columns() -> [String; 2] {
    [format!("{} bigint NOT NULL", quoted(ROW_COLUMN)), format!("{} int NULL", quoted(REFUSED_COLUMN))]
}

/// What the first of them takes.
pub(super) fn taker() -> Taker {
    let (name, type_name) = (ROW_COLUMN.to_owned(), "bigint".to_owned());
    Taker { name, type_name, kind: Kind::Int64, nullable: false, fit: Fit::Any }
}

/// How a staged row fills the target's columns.
struct Image<'a> {
    /// Columns whose values are known before the commit.
    known: Vec<&'a Readable>,
    /// Columns of the target, all.
    found: &'a [Readable],
    /// What is staged and not refused.
    staged: String,
    /// The rows of the target that stay, if any do.
    stays: Option<String>,
    keys: &'a [String],
}

/// A unique index, or the key the author names.
struct Unique {
    name: String,
    /// Which rows it is about, where that is not all.
    filter: String,
    columns: Vec<String>,
}

/// What staged rows can be held against, in that order.
pub(super) async fn of(sink: &SqlServerSink, session: &mut dyn Driver) -> Result<Vec<Held>> {
    let image = Image::of(sink, session).await?;
    let table = sink.target.quoted();
    let mut rules: Vec<Held> = image.keys.iter().map(|key| image.missing_key(key)).collect();
    rules.extend(image.checks(session, &table).await?);
    rules.extend(image.foreign(session, &table).await?);
    let mut indexes = unique(session, &table).await?;
    let guarded = indexes.iter().any(|index| index.filter.is_empty() && image.is_key(index));
    if !image.keys.is_empty() && !guarded {
        indexes.push(Unique { name: String::new(), filter: String::new(), columns: image.keys.to_vec() });
    }
    rules.extend(indexes.iter().flat_map(|index| image.unique(index)));
    Ok(rules)
}

/// Unique indexes that are in force, the primary key first. One whose filter this log-in may not see is left out.
async fn unique(session: &mut dyn Driver, table: &str) -> Result<Vec<Unique>> {
    let sql = "SELECT i.name, i.has_filter, i.filter_definition, c.name FROM sys.indexes i \
         JOIN sys.index_columns k ON k.object_id = i.object_id AND k.index_id = i.index_id \
         JOIN sys.columns c ON c.object_id = k.object_id AND c.column_id = k.column_id \
         WHERE i.object_id = OBJECT_ID(@P1) AND i.is_unique = 1 AND i.is_disabled = 0 AND i.is_hypothetical = 0 \
         AND k.key_ordinal > 0 ORDER BY i.is_primary_key DESC, i.name, k.key_ordinal";
    let mut indexes: Vec<(Unique, bool)> = Vec::new();
    for row in session.query(sql, &[Some(table)]).await? {
        let mut next = texts(row);
        let (name, filtered, filter, column) = (next(), next() == "1", next(), next());
        match indexes.last_mut().filter(|(index, _)| index.name == name) {
            Some((index, _)) => index.columns.push(column),
            None => {
                let told = filtered != filter.is_empty();
                indexes.push((Unique { name, filter, columns: vec![column] }, told));
            }
        }
    }
    Ok(indexes.into_iter().filter_map(|(index, told)| told.then_some(index)).collect())
}

/// A value as a column of the target holds it.
fn as_column(value: &str, column: &Readable) -> String {
    let collation =
        column.collation.as_deref().filter(|name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
    let collate = collation.map_or_else(String::new, |name| format!(" COLLATE {name}"));
    format!("CAST({value} AS {}){collate}", column.type_quoted)
}

impl<'a> Image<'a> {
    async fn of(sink: &'a SqlServerSink, session: &mut dyn Driver) -> Result<Self> {
        // What a column holds that no row gives a value: NULL, if the server has nothing else for it.
        let sql = "SELECT c.name FROM sys.columns c WHERE c.object_id = OBJECT_ID(@P1) AND c.default_object_id = 0";
        let rows = session.query(sql, &[Some(&sink.target.quoted())]).await?;
        let undefaulted: Vec<String> = rows.into_iter().map(|row| texts(row)()).collect();
        let slice = match &sink.request.slice {
            Some(slice) if sink.request.mode == WriteMode::Slice => {
                let value = publish::slice_literal(sink.found(), slice, &sink.target.label())?;
                Some((slice.column.as_str(), value))
            }
            _ => None,
        };
        // A row that is replaced keeps what no staged column gives it.
        let kept = sink.request.mode == WriteMode::Upsert;
        let (mut known, mut list) = (Vec::new(), vec![quoted(ROW_COLUMN)]);
        for column in sink.found() {
            let name = &column.column.name;
            let empty = column.column.nullable && !column.generated && !column.identity && undefaulted.contains(name);
            let staged = sink.staged.iter().find(|staged| staged.plan.sink == *name);
            let value = match (&slice, staged) {
                (Some((slice, value)), _) if slice == name => as_column(value, column),
                (_, Some(staged)) => staged.expression.clone(),
                _ if empty && !kept => as_column("NULL", column),
                _ => continue,
            };
            list.push(format!("{value} AS {}", quoted(name)));
            known.push(column);
        }
        let (staging, target) = (sink.staging_quoted(), sink.target.quoted());
        let unrefused = format!("{} IS NULL", quoted(REFUSED_COLUMN));
        let staged = format!("(SELECT {} FROM {staging} WHERE {unrefused})", list.join(", "));
        let mut keys: &[String] = &[];
        let stays = match sink.request.mode {
            WriteMode::Append => Some(target),
            WriteMode::Slice => slice.map(|(column, value)| {
                let column = quoted(column);
                format!("(SELECT * FROM {target} WHERE {column} <> {value} OR {column} IS NULL)")
            }),
            WriteMode::Upsert => {
                keys = sink.keys();
                let same: Vec<String> = keys.iter().map(|key| format!("n.{0} = r.{0}", quoted(key))).collect();
                let same = same.join(" AND ");
                let replaced = format!("SELECT 1 FROM {staging} AS n WHERE n.{unrefused} AND {same}");
                Some(format!("(SELECT * FROM {target} AS r WHERE NOT EXISTS ({replaced}))"))
            }
            WriteMode::Overwrite | WriteMode::Procedure => None,
        };
        Ok(Image { known, found: sink.found(), staged, stays, keys })
    }

    /// Whether a staged row says what is in all of these.
    fn knows(&self, columns: &[String]) -> bool {
        columns.iter().all(|name| self.known.iter().any(|known| known.column.name == *name))
    }

    /// Whether these are the columns by which rows are replaced.
    fn is_key(&self, unique: &Unique) -> bool {
        unique.columns.len() == self.keys.len() && unique.columns.iter().all(|column| self.keys.contains(column))
    }

    /// Columns that an expression of the catalog names, which has every one in brackets.
    fn named(&self, expression: &str) -> Vec<String> {
        let names = self.found.iter().map(|found| &found.column.name);
        names.filter(|name| expression.contains(&quoted(name))).cloned().collect()
    }

    fn missing_key(&self, key: &str) -> Held {
        let query = format!("SELECT {} FROM {} AS s WHERE {} IS NULL", quoted(ROW_COLUMN), self.staged, quoted(key));
        Held::missing_key(key, query)
    }

    /// Checks that are in force. One that comes to nothing, neither true nor false, lets a row pass.
    async fn checks(&self, session: &mut dyn Driver, table: &str) -> Result<Vec<Held>> {
        let sql = "SELECT k.name, k.definition FROM sys.check_constraints k \
             WHERE k.parent_object_id = OBJECT_ID(@P1) AND k.is_disabled = 0 ORDER BY k.name";
        let rows = session.query(sql, &[Some(table)]).await?;
        let held = rows.into_iter().filter_map(|row| {
            let mut next = texts(row);
            let (name, expression) = (next(), next());
            let columns = self.named(&expression);
            // Of columns that are hidden, or that the log-in may not see, nothing is known.
            let known = !expression.is_empty() && self.knows(&columns);
            let row = quoted(ROW_COLUMN);
            let query = format!("SELECT {row} FROM {} AS s WHERE NOT ({expression})", self.staged);
            known.then(|| Held::check(&name, columns, query))
        });
        Ok(held.collect())
    }

    async fn foreign(&self, session: &mut dyn Driver, table: &str) -> Result<Vec<Held>> {
        let sql = "SELECT f.name, s.name, o.name, p.name, r.name, \
             CASE WHEN f.referenced_object_id = f.parent_object_id THEN 1 ELSE 0 END FROM sys.foreign_keys f \
             JOIN sys.foreign_key_columns k ON k.constraint_object_id = f.object_id \
             JOIN sys.objects o ON o.object_id = f.referenced_object_id JOIN sys.schemas s ON s.schema_id = o.schema_id \
             JOIN sys.columns p ON p.object_id = k.parent_object_id AND p.column_id = k.parent_column_id \
             JOIN sys.columns r ON r.object_id = k.referenced_object_id AND r.column_id = k.referenced_column_id \
             WHERE f.parent_object_id = OBJECT_ID(@P1) AND f.is_disabled = 0 ORDER BY f.name, k.constraint_column_id";
        let rows: Vec<[String; 6]> = session
            .query(sql, &[Some(table)])
            .await?
            .into_iter()
            .map(|row| {
                let mut next = texts(row);
                std::array::from_fn(|_| next())
            })
            .collect();
        Ok(rows.chunk_by(|a, b| a[0] == b[0]).filter_map(|key| self.foreign_key(key)).collect())
    }

    /// A row with NULL in the key points nowhere and passes. The server looks at all rows when they are in: they may
    /// point to each other.
    fn foreign_key(&self, key: &[[String; 6]]) -> Option<Held> {
        let [name, schema, other, _, _, itself] = key.first()?;
        let itself = itself == "1";
        let absent = |other: &str| {
            let same = key.iter().map(|column| format!("o.{} = s.{}", quoted(&column[4]), quoted(&column[3])));
            let same: Vec<String> = same.collect();
            format!("NOT EXISTS (SELECT 1 FROM {other} AS o WHERE {})", same.join(" AND "))
        };
        let mut conditions: Vec<String> =
            key.iter().map(|column| format!("s.{} IS NOT NULL", quoted(&column[3]))).collect();
        if itself {
            conditions.push(absent(&self.staged));
            conditions.extend(self.stays.as_deref().map(absent));
        } else {
            conditions.push(absent(&format!("{}.{}", quoted(schema), quoted(other))));
        }
        let row = quoted(ROW_COLUMN);
        let query = format!("SELECT s.{row} FROM {} AS s WHERE {}", self.staged, conditions.join(" AND "));
        let columns: Vec<String> = key.iter().map(|column| column[3].clone()).collect();
        let others: Vec<String> = key.iter().map(|column| column[4].clone()).collect();
        // What it points to must be known as well.
        let known = self.knows(&columns) && (!itself || self.knows(&others));
        known.then(|| Held::foreign(name, columns, itself, query))
    }

    /// Against the rows that stay, then against each other. To SQL Server a NULL in a key is equal to another one.
    fn unique(&self, unique: &Unique) -> Vec<Held> {
        let columns = &unique.columns;
        if !self.knows(columns) || !self.knows(&self.named(&unique.filter)) {
            return Vec::new();
        }
        let filter = if unique.filter.is_empty() { String::new() } else { format!(" WHERE {}", unique.filter) };
        let row = quoted(ROW_COLUMN);
        let staged = format!("(SELECT * FROM {} AS a{filter})", self.staged);
        let mut rules = Vec::new();
        if let Some(stays) = self.stays.as_ref().filter(|_| !self.is_key(unique)) {
            let same = |name: &String| {
                let nullable = self.known.iter().any(|known| known.column.name == *name && known.column.nullable);
                let (o, s) = (format!("o.{}", quoted(name)), format!("s.{}", quoted(name)));
                if nullable { format!("({o} = {s} OR {o} IS NULL AND {s} IS NULL)") } else { format!("{o} = {s}") }
            };
            let same: Vec<String> = columns.iter().map(same).collect();
            let stays = if filter.is_empty() { stays.clone() } else { format!("(SELECT * FROM {stays} AS b{filter})") };
            let query = format!(
                "SELECT s.{row} FROM {staged} AS s WHERE EXISTS (SELECT 1 FROM {stays} AS o WHERE {})",
                same.join(" AND ")
            );
            // A row that is not replaced after all keeps its other keys.
            rules.push(Held::taken(&unique.name, columns, !self.keys.is_empty(), query));
        }
        let partition: Vec<String> = columns.iter().map(|column| format!("s.{}", quoted(column))).collect();
        let query = format!(
            "SELECT w.{row} FROM (SELECT s.{row}, ROW_NUMBER() OVER (PARTITION BY {} ORDER BY s.{row}) AS n \
             FROM {staged} AS s) AS w WHERE w.n > 1",
            partition.join(", ")
        );
        rules.push(Held::repeated(&unique.name, columns, query));
        rules
    }
}

/// Marks the rows that a rule refuses, and gives the rules in the order of the marks; none where every row fits.
pub(super) async fn screen(sink: &SqlServerSink, session: &mut dyn Driver) -> Result<Vec<Rule>> {
    let (staging, row) = (sink.staging_quoted(), quoted(ROW_COLUMN));
    // Where readers lock, the target is looked at when other writers are done.
    session.batch(&format!("SET LOCK_TIMEOUT {}", LOCK_SECONDS * 1000)).await?;
    let mut rounds = Rounds::over(&sink.screen);
    while let Some((mark, held)) = rounds.next() {
        dmg_ambient::failpoint!("sql_server.screen", dmg_connector::cut());
        let sql = format!(
            "UPDATE u SET {} = {mark} FROM {staging} AS u INNER JOIN ({}) AS d ON d.{row} = u.{row}; \
             SELECT ROWCOUNT_BIG() AS n",
            quoted(REFUSED_COLUMN),
            held.query
        );
        let marked = count(session, &sql).await;
        rounds.told(marked, session.usable())?;
    }
    let rules = rounds.rules();
    if !rules.is_empty() {
        let index = format!(
            "IF NOT EXISTS (SELECT 1 FROM sys.indexes WHERE object_id = OBJECT_ID({}) AND name = {}) \
             CREATE INDEX {} ON {staging} ({row}) INCLUDE ({})",
            literal(&staging),
            literal(INDEX),
            quoted(INDEX),
            quoted(REFUSED_COLUMN)
        );
        session.batch(&index).await?;
    }
    Ok(rules)
}

/// Marked rows, in order.
pub(super) async fn refused(
    sink: &SqlServerSink,
    session: &mut dyn Driver,
    after: i64,
    rows_max: usize,
) -> Result<Vec<Refused>> {
    let (row, mark) = (quoted(ROW_COLUMN), quoted(REFUSED_COLUMN));
    let sql = format!(
        "SELECT TOP ({rows_max}) {row}, {mark} FROM {} WHERE {mark} IS NOT NULL AND {row} > {after} ORDER BY {row}",
        sink.staging_quoted()
    );
    Ok(screen::refused(&session.batch(&sql).await?))
}

/// Takes the marked rows out.
pub(super) async fn take_out(sink: &SqlServerSink, session: &mut dyn Driver) -> Result<u64> {
    let mark = quoted(REFUSED_COLUMN);
    let sql = format!("DELETE FROM {} WHERE {mark} IS NOT NULL; SELECT ROWCOUNT_BIG() AS n", sink.staging_quoted());
    count(session, &sql).await
}
