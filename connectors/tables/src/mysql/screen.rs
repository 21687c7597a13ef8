//! Finds the staged rows that the target's constraints would refuse, by queries over the staging table: what the catalog
//! says of checks, foreign keys and unique indexes becomes one statement each. A rule that speaks of a column the server
//! fills is left to the commit, which then fails as a whole; so are the checks of MySQL, whose catalog garbles them.

use dmg_connector::{ROW_COLUMN, Refused, Result, Rule};
use dmg_protocol::WriteMode;

use super::client::{Client, literal, quoted};
use super::publish;
use super::write::MySqlSink;
use crate::screen::{self, Held, REFUSED_COLUMN, Rounds};

/// What is added to the staging table's definition.
pub(super) fn columns() -> String {
    format!("ADD COLUMN {ROW_COLUMN} bigint NOT NULL PRIMARY KEY, ADD COLUMN {REFUSED_COLUMN} int")
}

/// How a staged row fills the target's columns.
struct Image<'a> {
    sink: &'a MySqlSink,
    /// Names of columns whose values are known before the commit.
    known: Vec<String>,
    /// What is staged and not refused.
    staged: String,
    /// The rows of the target that stay, if any do.
    stays: Option<String>,
    keys: &'a [String],
}

/// A unique index, or the key the author names.
struct Unique {
    name: String,
    /// Columns, and the characters of them that count.
    columns: Vec<(String, Option<u32>)>,
}

/// What staged rows can be held against, in that order.
pub(super) async fn of(sink: &MySqlSink, client: &mut Client) -> Result<Vec<Held>> {
    let image = Image::of(sink, client).await?;
    let mut rules = Vec::new();
    if client.version.mariadb {
        rules.extend(image.checks(client).await?);
    }
    rules.extend(image.foreign(client).await?);
    let mut indexes = unique(sink, client).await?;
    let guarded = indexes.iter().any(|index| image.is_key(index));
    if !image.keys.is_empty() && !guarded {
        let columns = image.keys.iter().map(|key| (key.clone(), None)).collect();
        indexes.push(Unique { name: String::new(), columns });
    }
    rules.extend(indexes.iter().flat_map(|index| image.unique(index)));
    Ok(rules)
}

/// Rows of the catalog about the target, every value a text.
async fn catalog(sink: &MySqlSink, client: &mut Client, select: &str, order: &str) -> Result<Vec<Vec<String>>> {
    let (schema, table) = (literal(&sink.target.schema), literal(&sink.target.table));
    let sql = select.replace("@schema", &schema).replace("@table", &table) + order;
    let rows = client.query(&sql).await?.rows;
    Ok(rows.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect()).collect())
}

/// Unique indexes, the primary key first. One over an expression cannot be followed.
async fn unique(sink: &MySqlSink, client: &mut Client) -> Result<Vec<Unique>> {
    let select = "SELECT INDEX_NAME, COLUMN_NAME, SUB_PART FROM information_schema.STATISTICS \
         WHERE TABLE_SCHEMA = @schema AND TABLE_NAME = @table AND NON_UNIQUE = 0";
    let rows = catalog(sink, client, select, " ORDER BY INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX").await?;
    let mut indexes: Vec<Unique> = Vec::new();
    for row in rows {
        let [name, column, length] = <[String; 3]>::try_from(row).unwrap_or_default();
        let column = (column, length.parse().ok());
        match indexes.last_mut().filter(|index| index.name == name) {
            Some(index) => index.columns.push(column),
            None => indexes.push(Unique { name, columns: vec![column] }),
        }
    }
    indexes.retain(|index| index.columns.iter().all(|(column, _)| !column.is_empty()));
    Ok(indexes)
}

impl<'a> Image<'a> {
    async fn of(sink: &'a MySqlSink, client: &mut Client) -> Result<Self> {
        let select = "SELECT COLUMN_NAME, COALESCE(COLUMN_DEFAULT, 'NULL') = 'NULL' AND IS_NULLABLE = 'YES' AND EXTRA = '' \
             FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = @schema AND TABLE_NAME = @table";
        let slice = match &sink.request.slice {
            Some(slice) if sink.request.mode == WriteMode::Slice => {
                let value = publish::slice_value(sink, client, &slice.column, &slice.value).await?;
                Some((slice.column.as_str(), value))
            }
            _ => None,
        };
        // A row that is replaced keeps what no staged column gives it.
        let kept = sink.request.mode == WriteMode::Upsert;
        let (mut known, mut list) = (Vec::new(), vec![ROW_COLUMN.to_owned()]);
        for row in catalog(sink, client, select, " ORDER BY ORDINAL_POSITION").await? {
            let [name, empty] = <[String; 2]>::try_from(row).unwrap_or_default();
            let planned = sink.planned.iter().any(|plan| plan.sink.eq_ignore_ascii_case(&name));
            let value = match &slice {
                Some((column, value)) if column.eq_ignore_ascii_case(&name) => value.clone(),
                _ if planned => quoted(&name),
                _ if empty == "1" && !kept => "NULL".to_owned(),
                _ => continue,
            };
            list.push(format!("{value} AS {}", quoted(&name)));
            known.push(name);
        }
        let (staging, target) = (sink.staging_quoted(), sink.target.quoted());
        let staged = format!("(SELECT {} FROM {staging} WHERE {REFUSED_COLUMN} IS NULL)", list.join(", "));
        let mut keys: &[String] = &[];
        let stays = match sink.request.mode {
            WriteMode::Append => Some(target),
            WriteMode::Slice => slice
                .map(|(column, value)| format!("(SELECT * FROM {target} WHERE NOT ({} <=> {value}))", quoted(column))),
            WriteMode::Upsert => {
                keys = &sink.request.keys;
                let same: Vec<String> = keys.iter().map(|key| format!("n.{0} <=> r.{0}", quoted(key))).collect();
                let same = same.join(" AND ");
                let replaced = format!("SELECT 1 FROM {staging} n WHERE n.{REFUSED_COLUMN} IS NULL AND {same}");
                Some(format!("(SELECT * FROM {target} r WHERE NOT EXISTS ({replaced}))"))
            }
            WriteMode::Overwrite | WriteMode::Procedure => None,
        };
        Ok(Image { sink, known, staged, stays, keys })
    }

    fn knows(&self, name: &str) -> bool {
        self.known.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// Whether these are the columns by which rows are replaced.
    fn is_key(&self, unique: &Unique) -> bool {
        let is_key = |(column, length): &(String, Option<u32>)| {
            length.is_none() && self.keys.iter().any(|key| key.eq_ignore_ascii_case(column))
        };
        unique.columns.len() == self.keys.len() && unique.columns.iter().all(is_key)
    }

    /// Columns that an expression of the catalog names, which quotes every one.
    fn named(&self, expression: &str) -> Vec<String> {
        let found = self.sink.found.iter().map(|found| &found.column.name);
        found.filter(|name| expression.contains(&quoted(name))).cloned().collect()
    }

    async fn checks(&self, client: &mut Client) -> Result<Vec<Held>> {
        let select = "SELECT CONSTRAINT_NAME, CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS \
             WHERE CONSTRAINT_SCHEMA = @schema AND TABLE_NAME = @table";
        let rows = catalog(self.sink, client, select, " ORDER BY CONSTRAINT_NAME").await?;
        let held = rows.into_iter().filter_map(|row| {
            let [name, expression] = <[String; 2]>::try_from(row).ok()?;
            let columns = self.named(&expression);
            let query = format!("SELECT {ROW_COLUMN} FROM {} s WHERE ({expression}) IS FALSE", self.staged);
            let known = columns.iter().all(|column| self.knows(column));
            known.then(|| Held::check(&name, columns, query))
        });
        Ok(held.collect())
    }

    async fn foreign(&self, client: &mut Client) -> Result<Vec<Held>> {
        let select = "SELECT CONSTRAINT_NAME, COLUMN_NAME, REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME, \
             REFERENCED_COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE \
             WHERE TABLE_SCHEMA = @schema AND TABLE_NAME = @table AND REFERENCED_TABLE_NAME IS NOT NULL";
        let rows = catalog(self.sink, client, select, " ORDER BY CONSTRAINT_NAME, ORDINAL_POSITION").await?;
        let rows: Vec<_> = rows.into_iter().filter_map(|row| <[String; 5]>::try_from(row).ok()).collect();
        let keys = rows.chunk_by(|a, b| a[0] == b[0]);
        Ok(keys.filter_map(|key| self.foreign_key(key)).collect())
    }

    fn foreign_key(&self, key: &[[String; 5]]) -> Option<Held> {
        let [name, _, schema, table, _] = key.first()?;
        let target = &self.sink.target;
        let itself = *schema == target.schema && *table == target.table;
        let same = |other: &str| -> String {
            let same = key.iter().map(|column| format!("{other}.{} = s.{}", quoted(&column[4]), quoted(&column[1])));
            same.collect::<Vec<_>>().join(" AND ")
        };
        let mut absent: Vec<String> = Vec::new();
        if itself {
            // The server looks at each row as it comes: it may point to itself and to those before it.
            let before = format!("n.{ROW_COLUMN} <= s.{ROW_COLUMN}");
            absent.push(format!("NOT EXISTS (SELECT 1 FROM {} n WHERE {before} AND {})", self.staged, same("n")));
            absent.extend(
                self.stays.iter().map(|stays| format!("NOT EXISTS (SELECT 1 FROM {stays} o WHERE {})", same("o"))),
            );
        } else {
            let other = format!("{}.{}", quoted(schema), quoted(table));
            absent.push(format!("NOT EXISTS (SELECT 1 FROM {other} o WHERE {})", same("o")));
        }
        let given: Vec<String> = key.iter().map(|column| format!("s.{} IS NOT NULL", quoted(&column[1]))).collect();
        let query = format!(
            "SELECT s.{ROW_COLUMN} FROM {} s WHERE {} AND {}",
            self.staged,
            given.join(" AND "),
            absent.join(" AND ")
        );
        let columns: Vec<String> = key.iter().map(|column| column[1].clone()).collect();
        let known = columns.iter().all(|column| self.knows(column))
            && (!itself || key.iter().all(|column| self.knows(&column[4])));
        known.then(|| Held::foreign(name, columns, itself, query))
    }

    /// Against the rows that stay, then against each other.
    fn unique(&self, unique: &Unique) -> Vec<Held> {
        if !unique.columns.iter().all(|(column, _)| self.knows(column)) {
            return Vec::new();
        }
        let columns: Vec<String> = unique.columns.iter().map(|(column, _)| column.clone()).collect();
        // NULL is equal to nothing, but to the author's own key it is.
        let by_word = self.is_key(unique);
        let part = |of: &str, (column, length): &(String, Option<u32>)| match length {
            Some(length) => format!("LEFT({of}.{}, {length})", quoted(column)),
            None => format!("{of}.{}", quoted(column)),
        };
        let parts = |of: &str| unique.columns.iter().map(|column| part(of, column)).collect::<Vec<_>>();
        let given: Vec<String> = parts("s").iter().map(|part| format!("{part} IS NOT NULL")).collect();
        let given = if by_word { "1 = 1".to_owned() } else { given.join(" AND ") };
        let mut rules = Vec::new();
        if let Some(stays) = self.stays.as_ref().filter(|_| !by_word) {
            let same: Vec<String> = parts("o").iter().zip(parts("s")).map(|(o, s)| format!("{o} = {s}")).collect();
            let query = format!(
                "SELECT s.{ROW_COLUMN} FROM {} s WHERE EXISTS (SELECT 1 FROM {stays} o WHERE {})",
                self.staged,
                same.join(" AND ")
            );
            // A row that is not replaced after all keeps its other keys.
            rules.push(Held::taken(&unique.name, &columns, !self.keys.is_empty(), query));
        }
        let query = format!(
            "SELECT {ROW_COLUMN} FROM (SELECT s.{ROW_COLUMN}, ROW_NUMBER() OVER (PARTITION BY {} \
             ORDER BY s.{ROW_COLUMN}) AS n FROM {} s WHERE {given}) w WHERE n > 1",
            parts("s").join(", "),
            self.staged
        );
        rules.push(Held::repeated(&unique.name, &columns, query));
        rules
    }
}

/// Marks the rows that a rule refuses, and gives the rules in the order of the marks; none where every row fits.
pub(super) async fn screen(sink: &MySqlSink, client: &mut Client) -> Result<Vec<Rule>> {
    let staging = sink.staging_quoted();
    // What is only looked at is not locked then. A server that logs statements takes none at that level.
    let by_statement = client.query("SELECT @@log_bin AND @@binlog_format = 'STATEMENT'").await?.single();
    if by_statement.as_deref() != Some("1") {
        client.batch("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
    }
    client.batch(&format!("ANALYZE TABLE {staging}")).await?;
    let mut rounds = Rounds::over(&sink.screen);
    while let Some((mark, held)) = rounds.next() {
        dmg_ambient::failpoint!("mysql.screen", dmg_connector::cut());
        // DISTINCT has the server look everything up before it changes anything.
        let sql = format!(
            "UPDATE {staging} u JOIN (SELECT DISTINCT q.{ROW_COLUMN} FROM ({}) q) d ON u.{ROW_COLUMN} = d.{ROW_COLUMN} \
             SET u.{REFUSED_COLUMN} = {mark}",
            held.query
        );
        let marked = client.batch(&sql).await.map(|done| done.affected);
        rounds.told(marked, client.usable())?;
    }
    client.batch("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
    Ok(rounds.rules())
}

/// Marked rows, in order.
pub(super) async fn refused(
    sink: &MySqlSink,
    client: &mut Client,
    after: i64,
    rows_max: usize,
) -> Result<Vec<Refused>> {
    let sql = format!(
        "SELECT {ROW_COLUMN}, {REFUSED_COLUMN} FROM {} WHERE {REFUSED_COLUMN} IS NOT NULL AND {ROW_COLUMN} > {after} \
         ORDER BY {ROW_COLUMN} LIMIT {rows_max}",
        sink.staging_quoted()
    );
    Ok(screen::refused(&client.query(&sql).await?.rows))
}

/// Takes the marked rows out.
pub(super) async fn take_out(sink: &MySqlSink, client: &mut Client) -> Result<u64> {
    let sql = format!("DELETE FROM {} WHERE {REFUSED_COLUMN} IS NOT NULL", sink.staging_quoted());
    Ok(client.batch(&sql).await?.affected)
}
