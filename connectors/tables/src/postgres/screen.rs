//! Finds the staged rows that the target's constraints would refuse, by queries over the staging table: what the catalog
//! says of checks, foreign keys and unique indexes becomes one statement each. A rule that speaks of a column the server
//! fills, or that a query cannot follow, is left to the commit, which then fails as a whole.

use dmg_connector::{ROW_COLUMN, Refused, Result, Rule};
use serde::Deserialize;

use super::catalog::{Relation, quoted};
use super::client::Client;
use super::shape::Way;
use super::write::PostgresSink;
use crate::screen::{self, Held, REFUSED_COLUMN, Rounds};

/// What staged rows are held against, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Screen {
    rules: Vec<Held>,
    /// Whether the table has checks, which a copy of it would have too.
    pub(super) checks: bool,
}

/// Columns of the target, and how a staged row would fill them.
struct Image<'a> {
    table: String,
    /// Name, and what stands for its value in the staging table; none where only the server knows.
    columns: Vec<(String, Option<String>)>,
    /// What is staged and not refused.
    staged: String,
    /// The rows of the target that stay, if any do.
    stays: Option<String>,
    keys: &'a [String],
}

#[derive(Deserialize)]
struct Unique {
    name: String,
    predicate: Option<String>,
    nulls_equal: bool,
    keys: Vec<String>,
    /// Columns that it has as they are.
    plain: Vec<String>,
    /// All that it speaks of.
    columns: Vec<String>,
}

#[derive(Deserialize)]
struct Check {
    name: String,
    expression: String,
    columns: Vec<String>,
}

#[derive(Deserialize)]
struct Foreign {
    name: String,
    columns: Vec<String>,
    others: Vec<String>,
    other: String,
    itself: bool,
    full: bool,
}

const COLUMNS: &str = "SELECT json_build_array(a.attname, format_type(a.atttypid, a.atttypmod), \
     a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL) \
     FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
     WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

const UNIQUE: &str = "SELECT json_build_object('name', x.relname, 'predicate', pg_get_expr(i.indpred, i.indrelid), \
     'nulls_equal', coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false), \
     'keys', ARRAY(SELECT pg_get_indexdef(i.indexrelid, k, true) || coalesce((SELECT ' COLLATE ' || quote_ident(n.nspname) \
       || '.' || quote_ident(c.collname) FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace \
       WHERE c.oid = i.indcollation[k - 1] AND c.collname <> 'default'), '') \
      FROM generate_series(1, i.indnkeyatts) AS k ORDER BY k), \
     'plain', ARRAY(SELECT a.attname FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) WITH ORDINALITY u (num, at) \
      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.num ORDER BY u.at), \
     'columns', ARRAY(SELECT a.attname FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum > 0 \
      AND (a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]) OR EXISTS (SELECT FROM pg_depend d \
       WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refclassid = 'pg_class'::regclass \
       AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum)) ORDER BY a.attnum)) \
     FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid \
     WHERE i.indrelid = $1::oid AND i.indisunique AND i.indislive ORDER BY NOT i.indisprimary, x.relname";

const CHECKS: &str = "SELECT json_build_object('name', k.conname, 'expression', pg_get_expr(k.conbin, k.conrelid), \
     'columns', ARRAY(SELECT a.attname FROM pg_attribute a WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey) \
      ORDER BY a.attnum)) FROM pg_constraint k WHERE k.conrelid = $1::oid AND k.contype = 'c' \
     AND coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true) ORDER BY k.conname";

const FOREIGN: &str = "SELECT json_build_object('name', k.conname, 'full', k.confmatchtype = 'f', \
     'itself', k.confrelid = k.conrelid, 'other', CASE WHEN c.relkind = 'r' THEN 'ONLY ' ELSE '' END \
      || quote_ident(n.nspname) || '.' || quote_ident(c.relname), \
     'columns', ARRAY(SELECT a.attname FROM unnest(k.conkey) WITH ORDINALITY u (num, at) \
      JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num ORDER BY u.at), \
     'others', ARRAY(SELECT a.attname FROM unnest(k.confkey) WITH ORDINALITY u (num, at) \
      JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.num ORDER BY u.at)) \
     FROM pg_constraint k JOIN pg_class c ON c.oid = k.confrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE k.conrelid = $1::oid AND k.contype = 'f' AND has_table_privilege(k.confrelid, 'SELECT') \
     AND coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true) ORDER BY k.conname";

async fn catalog<T: for<'a> Deserialize<'a>>(client: &mut Client, sql: &str, relation: &Relation) -> Result<Vec<T>> {
    let rows = client.query(sql, &[Some(&relation.oid)]).await?.rows;
    // A name that JSON cannot hold is left to the commit.
    Ok(rows.into_iter().filter_map(|row| serde_json::from_str(row.first()?.as_deref()?).ok()).collect())
}

/// What is added to the staging table's definition.
pub(super) fn columns() -> [String; 2] {
    [format!("ADD COLUMN {ROW_COLUMN} bigint NOT NULL"), format!("ADD COLUMN {REFUSED_COLUMN} integer")]
}

/// Takes the columns away that the target must not get with the staging table.
pub(super) async fn strip(sink: &PostgresSink, client: &mut Client) -> Result<()> {
    let staging = sink.staging_quoted();
    client.batch(&format!("ALTER TABLE {staging} DROP COLUMN {ROW_COLUMN}, DROP COLUMN {REFUSED_COLUMN}")).await
}

/// What the rows for that target can be held against; none where nothing of it can be known before the commit.
pub(super) async fn of(
    sink: &PostgresSink,
    client: &mut Client,
    relation: &Relation,
    way: &Way,
) -> Result<Option<Screen>> {
    let image = Image::of(sink, client, relation, way).await?;
    let mut screen = Screen::default();
    for key in image.keys {
        screen.rules.push(image.missing_key(key));
    }
    for check in catalog::<Check>(client, CHECKS, relation).await? {
        screen.checks = true;
        screen.rules.extend(image.check(&check));
    }
    for foreign in catalog::<Foreign>(client, FOREIGN, relation).await? {
        screen.rules.extend(image.foreign(&foreign));
    }
    let mut guarded = false;
    for unique in catalog::<Unique>(client, UNIQUE, relation).await? {
        guarded |= image.is_key(&unique.columns) && unique.predicate.is_none();
        screen.rules.extend(image.unique(&unique));
    }
    if !image.keys.is_empty() && !guarded {
        // No index guards the key that the author names.
        let (name, keys) = (String::new(), image.keys.iter().map(|key| quoted(key)).collect());
        let (plain, columns) = (image.keys.to_vec(), image.keys.to_vec());
        let by_word = Unique { name, predicate: None, nulls_equal: false, keys, plain, columns };
        screen.rules.extend(image.unique(&by_word));
    }
    Ok((!screen.rules.is_empty()).then_some(screen))
}

impl<'a> Image<'a> {
    async fn of(sink: &PostgresSink, client: &mut Client, relation: &Relation, way: &'a Way) -> Result<Self> {
        let found: Vec<(String, String, bool)> = catalog(client, COLUMNS, relation).await?;
        let slice = match way {
            Way::Slice { column, value } => Some((column, value)),
            _ => None,
        };
        // A row that is replaced keeps what no staged column gives it.
        let kept = matches!(way, Way::Upsert { .. });
        let value = |(name, type_name, filled): (String, String, bool)| {
            let value = match slice {
                Some((column, value)) if *column == name => Some(value.clone()),
                _ if sink.planned.iter().any(|plan| plan.sink == name) => Some(quoted(&name)),
                _ => (!filled && !kept).then(|| format!("NULL::{type_name}")),
            };
            (name, value)
        };
        let columns: Vec<_> = found.into_iter().map(value).collect();
        let known = columns.iter().filter_map(|(name, value)| Some(format!("{} AS {}", value.as_ref()?, quoted(name))));
        let known: Vec<String> = known.chain([format!("{ROW_COLUMN} AS {ROW_COLUMN}")]).collect();
        let staging = sink.staging_quoted();
        let staged = format!("(SELECT {} FROM {staging} WHERE {REFUSED_COLUMN} IS NULL)", known.join(", "));
        let only = if relation.kind == 'r' { "ONLY " } else { "" };
        let target = format!("{only}{}", relation.quoted());
        let (stays, keys): (_, &[String]) = match way {
            Way::Insert => (Some(format!("(SELECT * FROM {target})")), &[]),
            Way::Slice { column, value } => {
                (Some(format!("(SELECT * FROM {target} WHERE {} IS DISTINCT FROM {value})", quoted(column))), &[])
            }
            Way::Upsert { keys, .. } => {
                let same: Vec<String> = keys.iter().map(|key| format!("n.{0} = o.{0}", quoted(key))).collect();
                let same = same.join(" AND ");
                let replaced = format!("SELECT FROM {staging} n WHERE n.{REFUSED_COLUMN} IS NULL AND {same}");
                (Some(format!("(SELECT * FROM {target} o WHERE NOT EXISTS ({replaced}))")), keys)
            }
            _ => (None, &[]),
        };
        Ok(Image { table: quoted(&relation.name), columns, staged, stays, keys })
    }

    /// Whether a staged row says what is in all of these.
    fn knows(&self, columns: &[String]) -> bool {
        let known = |name: &String| self.columns.iter().any(|(column, value)| column == name && value.is_some());
        columns.iter().all(known)
    }

    /// Whether these are the columns by which rows are replaced.
    fn is_key(&self, columns: &[String]) -> bool {
        columns.len() == self.keys.len() && columns.iter().all(|column| self.keys.contains(column))
    }

    fn missing_key(&self, key: &str) -> Held {
        let query = format!("SELECT {ROW_COLUMN} FROM {} s WHERE {} IS NULL", self.staged, quoted(key));
        Held::missing_key(key, query)
    }

    fn check(&self, check: &Check) -> Option<Held> {
        let query =
            format!("SELECT {ROW_COLUMN} FROM {} {} WHERE ({}) IS FALSE", self.staged, self.table, check.expression);
        self.knows(&check.columns).then(|| Held::check(&check.name, check.columns.clone(), query))
    }

    fn foreign(&self, foreign: &Foreign) -> Option<Held> {
        let pairs = || foreign.columns.iter().zip(&foreign.others);
        let same = |other: &str| -> String {
            let same = pairs().map(|(own, theirs)| format!("{other}.{} = s.{}", quoted(theirs), quoted(own)));
            same.collect::<Vec<_>>().join(" AND ")
        };
        let mut absent = vec![];
        if foreign.itself {
            absent.push(format!("NOT EXISTS (SELECT FROM {} n WHERE {})", self.staged, same("n")));
            absent.extend(
                self.stays.iter().map(|stays| format!("NOT EXISTS (SELECT FROM {stays} o WHERE {})", same("o"))),
            );
            // What it points to must be known as well.
            if !self.knows(&foreign.others) {
                return None;
            }
        } else {
            absent.push(format!("NOT EXISTS (SELECT FROM {} o WHERE {})", foreign.other, same("o")));
        }
        let given = |word: &str, joint: &str| {
            let given = foreign.columns.iter().map(|column| format!("s.{} {word}", quoted(column)));
            given.collect::<Vec<_>>().join(joint)
        };
        let mut condition = format!("({} AND {})", given("IS NOT NULL", " AND "), absent.join(" AND "));
        if foreign.full {
            let (some, none) = (given("IS NOT NULL", " OR "), given("IS NULL", " OR "));
            condition = format!("({condition} OR (({some}) AND ({none})))");
        }
        let query = format!("SELECT s.{ROW_COLUMN} FROM {} s WHERE {condition}", self.staged);
        let held = || Held::foreign(&foreign.name, foreign.columns.clone(), foreign.itself, query);
        self.knows(&foreign.columns).then(held)
    }

    /// Against the rows that stay, then against each other.
    fn unique(&self, unique: &Unique) -> Vec<Held> {
        if !self.knows(&unique.columns) {
            return Vec::new();
        }
        let numbers = || 1..=unique.keys.len();
        let keys: Vec<String> = unique.keys.iter().zip(numbers()).map(|(key, k)| format!("{key} AS k{k}")).collect();
        let keys = keys.join(", ");
        let filter = unique.predicate.as_ref().map_or(String::new(), |predicate| format!(" WHERE {predicate}"));
        let keyed = format!("(SELECT {ROW_COLUMN}, {keys} FROM {} {}{filter})", self.staged, self.table);
        let equal = if unique.nulls_equal { "IS NOT DISTINCT FROM" } else { "=" };
        let columns = if unique.plain.is_empty() { &unique.columns } else { &unique.plain };
        let mut held_against = Vec::new();
        if let Some(stays) = self.stays.as_ref().filter(|_| !self.is_key(&unique.columns)) {
            let same: Vec<String> = numbers().map(|k| format!("o.k{k} {equal} s.k{k}")).collect();
            let query = format!(
                "SELECT s.{ROW_COLUMN} FROM {keyed} s WHERE EXISTS \
                 (SELECT FROM (SELECT {keys} FROM {stays} {}{filter}) o WHERE {})",
                self.table,
                same.join(" AND ")
            );
            // A row that is not replaced after all keeps its other keys.
            held_against.push(Held::taken(&unique.name, columns, !self.keys.is_empty(), query));
        }
        let partition = numbers().map(|k| format!("k{k}")).collect::<Vec<_>>().join(", ");
        let given: Vec<String> = numbers().map(|k| format!("k{k} IS NOT NULL")).collect();
        let given = if unique.nulls_equal { "true".to_owned() } else { given.join(" AND ") };
        let query = format!(
            "SELECT {ROW_COLUMN} FROM (SELECT {ROW_COLUMN}, row_number() OVER (PARTITION BY {partition} \
             ORDER BY {ROW_COLUMN}) AS n FROM {keyed} s WHERE {given}) d WHERE n > 1"
        );
        held_against.push(Held::repeated(&unique.name, columns, query));
        held_against
    }
}

/// Marks the rows that a rule refuses, and gives the rules in the order of the marks; none where every row fits.
pub(super) async fn screen(sink: &PostgresSink, client: &mut Client) -> Result<Vec<Rule>> {
    let Some(screen) = &sink.screen else { return Ok(Vec::new()) };
    let staging = sink.staging_quoted();
    // Without figures about its rows the server would plan for a few.
    client.batch(&format!("ANALYZE {staging}")).await?;
    let mut rounds = Rounds::over(&screen.rules);
    while let Some((mark, held)) = rounds.next() {
        dmg_ambient::failpoint!("postgres.screen", dmg_connector::cut());
        let sql = format!(
            "UPDATE {staging} u SET {REFUSED_COLUMN} = {mark} FROM ({}) AS d ({ROW_COLUMN}) \
             WHERE u.{ROW_COLUMN} = d.{ROW_COLUMN}",
            held.query
        );
        let marked = client.query(&sql, &[]).await.map(|answer| answer.affected);
        rounds.told(marked, client.usable())?;
    }
    let rules = rounds.rules();
    if rules.is_empty() {
        return Ok(rules);
    }
    let index = format!("CREATE INDEX ON {staging} ({ROW_COLUMN}) WHERE {REFUSED_COLUMN} IS NOT NULL");
    client.batch(&index).await?;
    Ok(rules)
}

/// Marked rows, in order.
pub(super) async fn refused(
    sink: &PostgresSink,
    client: &mut Client,
    after: i64,
    rows_max: usize,
) -> Result<Vec<Refused>> {
    let sql = format!(
        "SELECT {ROW_COLUMN}, {REFUSED_COLUMN} FROM {} WHERE {REFUSED_COLUMN} IS NOT NULL AND {ROW_COLUMN} > {after} \
         ORDER BY {ROW_COLUMN} LIMIT {rows_max}",
        sink.staging_quoted()
    );
    Ok(screen::refused(&client.query(&sql, &[]).await?.rows))
}

/// Takes the marked rows out.
pub(super) async fn take_out(sink: &PostgresSink, client: &mut Client) -> Result<u64> {
    let sql = format!("DELETE FROM {} WHERE {REFUSED_COLUMN} IS NOT NULL", sink.staging_quoted());
    Ok(client.query(&sql, &[]).await?.affected)
}
