//! Brings staged rows to where readers look, in the open transaction of the commit: one function per way.

use dmg_connector::Result;
use dmg_protocol::{ColumnPlan, Fault};

use super::catalog::{self, quoted, quoted_list};
use super::checkpoint;
use super::client::Client;
use super::screen;
use super::shape::{self, Structure, Way, literal};
use super::write::PostgresSink;

/// How long the replacement of a table waits for its readers before rows are moved instead.
const SWAP_LOCK_SECONDS: u32 = 5;

/// What is done before anybody else is kept waiting: the indexes of the table that takes the target's place.
pub(super) async fn prepare(sink: &PostgresSink, client: &mut Client) -> Result<()> {
    let Way::Replace(structure) = &sink.way else { return Ok(()) };
    if sink.screen.is_some() {
        screen::strip(sink, client).await?;
    }
    let staging = sink.staging_quoted();
    for (number, index) in structure.indexes.iter().enumerate() {
        let name = quoted(&index_name(sink, number));
        let sql = match &index.constraint {
            Some(constraint) => format!("ALTER TABLE {staging} ADD CONSTRAINT {name} {constraint}"),
            None => {
                let kind = if index.unique { "UNIQUE INDEX" } else { "INDEX" };
                format!("CREATE {kind} {name} ON {staging} {}", index.definition)
            }
        };
        client.batch(&sql).await?;
    }
    Ok(())
}

fn index_name(sink: &PostgresSink, number: usize) -> String {
    format!("{}_x{number}", sink.staging())
}

/// Takes the lock that the way needs. Gives back the way that is gone after all: a table that readers hold, or that
/// changed since the plan, is not replaced; its rows are.
pub(super) async fn lock<'a>(sink: &'a PostgresSink, client: &mut Client) -> Result<&'a Way> {
    let target = sink.target.quoted();
    let mode = match &sink.way {
        Way::Become | Way::Call { .. } => return Ok(&sink.way),
        // Its transaction holds the lock since its first row.
        Way::Direct => return Ok(&sink.way),
        Way::Replace(structure) => {
            if exclusively(sink, client, structure).await? {
                return Ok(&sink.way);
            }
            "SHARE ROW EXCLUSIVE"
        }
        _ if sink.added().next().is_some() => "ACCESS EXCLUSIVE",
        // These two see to it themselves that concurrent writers get along.
        Way::Insert | Way::Upsert { indexed: true, .. } => "ROW EXCLUSIVE",
        // Readers never wait, other writers do.
        Way::DeleteAll | Way::Slice { .. } | Way::Upsert { indexed: false, .. } => "SHARE ROW EXCLUSIVE",
    };
    client.batch(&format!("LOCK TABLE {target} IN {mode} MODE")).await?;
    Ok(if matches!(sink.way, Way::Replace(_)) { &Way::DeleteAll } else { &sink.way })
}

/// Locks the target against everybody, if that is soon possible and it still is what was planned for.
async fn exclusively(sink: &PostgresSink, client: &mut Client, structure: &Structure) -> Result<bool> {
    let target = sink.target.quoted();
    client.batch(&format!("SAVEPOINT dmg_swap; SET LOCAL lock_timeout = '{SWAP_LOCK_SECONDS}s'")).await?;
    let locked = client.batch(&format!("LOCK TABLE {target} IN ACCESS EXCLUSIVE MODE")).await;
    let same = match locked {
        Ok(()) => {
            let oid = client.query("SELECT $1::regclass::oid", &[Some(&target)]).await?.single().unwrap_or_default();
            shape::structure(client, &oid).await?.as_ref() == Ok(structure)
        }
        Err(error) if error.fault.context.get("sqlState").is_some_and(|state| state == "55P03") => false,
        Err(error) => return Err(error),
    };
    if !same {
        client.batch("ROLLBACK TO SAVEPOINT dmg_swap").await?;
    }
    Ok(same)
}

/// Adds the columns that the target lacks.
pub(super) async fn add_columns(sink: &PostgresSink, client: &mut Client, way: &Way) -> Result<()> {
    if matches!(way, Way::Become | Way::Replace(_) | Way::Call { .. }) {
        return Ok(());
    }
    let added: Vec<String> = sink
        .added()
        .map(|plan| format!("ADD COLUMN IF NOT EXISTS {} {}", quoted(&plan.sink), plan.sink_type))
        .collect();
    if added.is_empty() {
        return Ok(());
    }
    client.batch(&format!("ALTER TABLE {} {}", sink.target.quoted(), added.join(", "))).await
}

/// Moves the rows. Gives their number, as the target took them.
pub(super) async fn rows(sink: &PostgresSink, client: &mut Client, way: &Way) -> Result<u64> {
    let (target, staging) = (sink.target.quoted(), sink.staging_quoted());
    let columns = sink.column_list();
    let insert = format!("INSERT INTO {target} ({columns}) SELECT {columns} FROM {staging}");
    let rows = match way {
        Way::Direct => return Ok(sink.rows_taken()),
        Way::Become => return become_target(sink, client).await,
        Way::Replace(structure) => return replace(sink, client, structure).await,
        Way::Insert => client.query(&insert, &[]).await?.affected,
        Way::DeleteAll => {
            client.query(&format!("DELETE FROM {target}"), &[]).await?;
            client.query(&insert, &[]).await?.affected
        }
        Way::Slice { column, value } => {
            let column = quoted(column);
            client.query(&format!("DELETE FROM {target} WHERE {column} = {value}"), &[]).await?;
            let sql = format!("INSERT INTO {target} ({columns}, {column}) SELECT {columns}, {value} FROM {staging}");
            client.query(&sql, &[]).await?.affected
        }
        Way::Upsert { keys, indexed } => upsert(sink, client, keys, *indexed, &insert).await?,
        Way::Call { statement } => {
            client.batch(statement).await?;
            sink.rows_taken()
        }
    };
    client.batch(&format!("DROP TABLE {staging}, {}", checkpoint::own(sink))).await?;
    Ok(rows)
}

async fn count(client: &mut Client, sql: &str) -> Result<u64> {
    Ok(client.query(sql, &[]).await?.single().and_then(|count| count.parse().ok()).unwrap_or(0))
}

/// The staging table takes the name of a table that does not exist yet, and gets its key.
async fn become_target(sink: &PostgresSink, client: &mut Client) -> Result<u64> {
    let (target, staging) = (sink.target.quoted(), sink.staging_quoted());
    client
        .batch(&format!(
            "DROP TABLE {}; ALTER TABLE {staging} RENAME TO {}",
            checkpoint::own(sink),
            quoted(&sink.target.table)
        ))
        .await?;
    let keys = sink.new_keys();
    if !keys.is_empty() {
        let keys = quoted_list(keys.iter().map(String::as_str));
        client.batch(&format!("ALTER TABLE {target} ADD PRIMARY KEY ({keys})")).await?;
    }
    if let Some(slice) = &sink.request.slice {
        // A default fills the rows that are there without touching them; those that come later are none of ours.
        let (column, value) = (quoted(&slice.column), literal(&format!("\\x{}", slice.value)));
        let sql = format!(
            "ALTER TABLE {target} ADD COLUMN {column} bytea DEFAULT {value}; \
             ALTER TABLE {target} ALTER COLUMN {column} DROP DEFAULT"
        );
        client.batch(&sql).await?;
    }
    Ok(sink.rows_taken())
}

/// The staging table takes the place of the target; whatever had a name keeps it.
async fn replace(sink: &PostgresSink, client: &mut Client, structure: &Structure) -> Result<u64> {
    let (target, staging) = (sink.target.quoted(), sink.staging_quoted());
    let schema = quoted(&sink.target.schema);
    for (sequence, column) in &structure.sequences {
        client.batch(&format!("ALTER SEQUENCE {sequence} OWNED BY {staging}.{}", quoted(column))).await?;
    }
    client
        .batch(&format!(
            "DROP TABLE {target}, {}; ALTER TABLE {staging} RENAME TO {}",
            checkpoint::own(sink),
            quoted(&sink.target.table)
        ))
        .await?;
    for (number, index) in structure.indexes.iter().enumerate() {
        let (temporary, name) = (quoted(&index_name(sink, number)), quoted(&index.name));
        client.batch(&format!("ALTER INDEX {schema}.{temporary} RENAME TO {name}")).await?;
        if let Some(comment) = &index.comment {
            client.batch(&format!("COMMENT ON INDEX {schema}.{name} IS {}", literal(comment))).await?;
        }
    }
    if let Some(comment) = &structure.comment {
        client.batch(&format!("COMMENT ON TABLE {target} IS {}", literal(comment))).await?;
    }
    Ok(sink.rows_taken())
}

async fn upsert(sink: &PostgresSink, client: &mut Client, keys: &[String], indexed: bool, insert: &str) -> Result<u64> {
    refuse_unfit_keys(sink, client, keys, !indexed).await?;
    let (target, staging) = (sink.target.quoted(), sink.staging_quoted());
    let others: Vec<&ColumnPlan> = sink.planned.iter().filter(|plan| !keys.contains(&plan.sink)).collect();
    let set = |from: &str| {
        // Where there is nothing but keys, setting one to itself makes the server count the row.
        let names = others.iter().map(|plan| plan.sink.as_str());
        let names: Vec<&str> = if others.is_empty() { vec![keys[0].as_str()] } else { names.collect() };
        let set: Vec<String> = names.iter().map(|name| format!("{0} = {from}.{0}", quoted(name))).collect();
        set.join(", ")
    };
    if indexed {
        let key_list = quoted_list(keys.iter().map(String::as_str));
        let sql = format!("{insert} ON CONFLICT ({key_list}) DO UPDATE SET {}", set("EXCLUDED"));
        return match client.query(&sql, &[]).await {
            Ok(answer) => Ok(answer.affected),
            Err(error) if error.fault.context.get("sqlState").is_some_and(|state| state == "21000") => {
                // The transaction is lost, the staged rows are not: they tell which key it was.
                client.batch("ROLLBACK").await?;
                refuse_unfit_keys(sink, client, keys, true).await?;
                Err(error)
            }
            Err(error) => Err(error),
        };
    }
    let equal: Vec<String> = keys.iter().map(|key| format!("t.{0} = s.{0}", quoted(key))).collect();
    let equal = equal.join(" AND ");
    client.query(&format!("UPDATE {target} t SET {} FROM {staging} s WHERE {equal}", set("s")), &[]).await?;
    let absent = format!("{insert} s WHERE NOT EXISTS (SELECT FROM {target} t WHERE {equal})");
    client.query(&absent, &[]).await?;
    count(client, &format!("SELECT count(*) FROM {staging} s WHERE EXISTS (SELECT FROM {target} t WHERE {equal})"))
        .await
}

/// Refuses NULL in a key and, where asked for, a key that two staged rows have.
async fn refuse_unfit_keys(sink: &PostgresSink, client: &mut Client, keys: &[String], doubled: bool) -> Result<()> {
    let (staging, label) = (sink.staging_quoted(), sink.target.label());
    for key in keys {
        let sql = format!("SELECT 1 FROM {staging} WHERE {} IS NULL LIMIT 1", quoted(key));
        if client.query(&sql, &[]).await?.single().is_some() {
            let message = format!("A row for {label} has NULL in key column \"{key}\"; it cannot be found by its key.");
            let remedy = "Leave such rows out at the source, or name other key columns.";
            return Err(Fault::new("UserErrorValue", message).remedy(remedy).with("column", key).into());
        }
    }
    if !doubled {
        return Ok(());
    }
    let list = quoted_list(keys.iter().map(String::as_str));
    let texts: Vec<String> = keys.iter().map(|key| format!("left({}::text, 200)", quoted(key))).collect();
    let sql =
        format!("SELECT count(*), {} FROM {staging} GROUP BY {list} HAVING count(*) > 1 LIMIT 1", texts.join(", "));
    let Some(row) = client.query(&sql, &[]).await?.rows.into_iter().next() else { return Ok(()) };
    let mut values = row.into_iter().map(Option::unwrap_or_default);
    let times = values.next().unwrap_or_default();
    let key: Vec<String> = keys.iter().zip(values).map(|(name, value)| format!("{name} = {value}")).collect();
    let message = format!("{times} rows for {label} have the same key: {}.", key.join(", "));
    Err(Fault::new("UserErrorDuplicateKey", message).with("key", keys.join(", ")).into())
}

/// The columns a statement about the planned ones needs at the target.
pub(super) fn added<'a>(
    planned: &'a [ColumnPlan],
    found: &'a [catalog::Readable],
) -> impl Iterator<Item = &'a ColumnPlan> {
    planned.iter().filter(|plan| !found.iter().any(|found| found.column.name == plan.sink))
}
