//! How a commit will happen: by swapping tables where nothing depends on the one that is there, else in one
//! transaction. Looks at the server; changes nothing.

use dmg_connector::Result;
use dmg_protocol::{CommitShape, Fault, WriteMode};

use super::client::{Client, literal};
use super::write::MySqlSink;

/// Characters of a table's comment, and what of it a mark may need.
const COMMENT_CHARACTERS_MAX: usize = 2048;
const MARK_CHARACTERS: usize = 512;

/// The shape, and what a person should know of it.
pub(super) async fn choose(sink: &MySqlSink, client: &mut Client) -> Result<(CommitShape, Vec<String>)> {
    let label = sink.target.label();
    if sink.request.mode == WriteMode::Procedure {
        let notice = format!("Each row is handed to procedure {} by a call of its own.", sink.procedure_name());
        return Ok((CommitShape::Procedure, vec![notice]));
    }
    let Some(relation) = &sink.target.exists else {
        let notice = format!("Table {label} does not exist and is created by the commit.");
        return Ok((CommitShape::Swap, vec![notice]));
    };
    let against = match sink.request.mode {
        WriteMode::Overwrite => reason_against_swap(sink, client).await?,
        // These add to what is there.
        _ => None,
    };
    if sink.request.mode == WriteMode::Overwrite && against.is_none() {
        return Ok((CommitShape::Swap, Vec::new()));
    }
    if !relation.transactional {
        let message = format!("Table {label} is kept by engine {}, which has no transactions.", relation.engine);
        let remedy = "Convert the table to InnoDB, or overwrite it as a whole without a script before the copy.";
        return Err(Fault::new("UserErrorNotSupported", message).remedy(remedy).into());
    }
    let mut notices: Vec<String> =
        against.map(|why| format!("Rows of {label} are deleted and inserted, because {why}.")).into_iter().collect();
    if sink.request.add_columns && !sink.added().is_empty() {
        let names = sink.added().iter().map(|plan| plan.sink.as_str()).collect::<Vec<_>>().join(", ");
        notices.push(format!(
            "Columns are added to {label} just before the commit, and stay there should it fail: {names}."
        ));
    }
    Ok((CommitShape::Staged, notices))
}

/// Why a new table may not take the place of the old one, if so.
async fn reason_against_swap(sink: &MySqlSink, client: &mut Client) -> Result<Option<String>> {
    let Some(relation) = &sink.target.exists else { return Ok(None) };
    let version = &client.version;
    if version.number < if version.mariadb { (10, 6, 0) } else { (8, 0, 0) } {
        return Ok(Some(format!("version {} does not rename tables in one step that survives a crash", version.text)));
    }
    if sink.request.pre_copy_script.as_ref().is_some_and(|script| !script.trim().is_empty()) {
        return Ok(Some("a script runs before the copy".to_owned()));
    }
    if !sink.screen.is_empty() {
        return Ok(Some("rows that the table refuses are left out".to_owned()));
    }
    if relation.comment.chars().count() + MARK_CHARACTERS > COMMENT_CHARACTERS_MAX {
        return Ok(Some("the comment of the table leaves no room for the mark".to_owned()));
    }
    let (schema, table) = (literal(&relation.schema), literal(&relation.name));
    let references = format!(
        "SELECT COUNT(*) FROM information_schema.KEY_COLUMN_USAGE WHERE REFERENCED_TABLE_NAME IS NOT NULL AND \
         (TABLE_SCHEMA = {schema} AND TABLE_NAME = {table} \
         OR REFERENCED_TABLE_SCHEMA = {schema} AND REFERENCED_TABLE_NAME = {table})"
    );
    if client.query(&references).await?.single().as_deref() != Some("0") {
        return Ok(Some("foreign keys lead from or to the table".to_owned()));
    }
    let triggers = format!(
        "SELECT COUNT(*) FROM information_schema.TRIGGERS \
         WHERE EVENT_OBJECT_SCHEMA = {schema} AND EVENT_OBJECT_TABLE = {table}"
    );
    if client.query(&triggers).await?.single().as_deref() != Some("0") {
        return Ok(Some("the table has triggers".to_owned()));
    }
    let versioned = format!(
        "SELECT TABLE_TYPE FROM information_schema.TABLES WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME = {table}"
    );
    if client.query(&versioned).await?.single().is_some_and(|kind| kind != "BASE TABLE") {
        return Ok(Some("the table keeps its history".to_owned()));
    }
    Ok(None)
}

/// What the target is, as far as a table that takes its place must be the same: not its counter, nor its comment.
pub(super) async fn definition(sink: &MySqlSink, client: &mut Client) -> Result<String> {
    let row = client.query(&format!("SHOW CREATE TABLE {}", sink.target.quoted())).await?.rows.into_iter().next();
    let text = row.and_then(|row| row.into_iter().nth(1).flatten()).unwrap_or_default();
    // The options stand behind the last parenthesis at the start of a line.
    let (columns, options) = text.rsplit_once("\n)").unwrap_or((&text, ""));
    let options = options.split(" COMMENT=").next().unwrap_or_default();
    let lasting = options.split(' ').filter(|option| !option.starts_with("AUTO_INCREMENT="));
    Ok(format!("{columns}\n){}", lasting.collect::<Vec<_>>().join(" ")))
}

/// Refuses to let a new table take the place of one that was altered since the plan was made.
pub(super) async fn check_unaltered(sink: &MySqlSink, client: &mut Client) -> Result<()> {
    let Some(planned) = &sink.definition else { return Ok(()) };
    let label = sink.target.label();
    if *planned != definition(sink, client).await? {
        let message = format!("Table {label} was altered since the plan was made.");
        let remedy = "Nothing was committed; run again.";
        return Err(Fault::new("StoreErrorCommitRefused", message).remedy(remedy).into());
    }
    if let Some(why) = reason_against_swap(sink, client).await? {
        let message = format!("Table {label} cannot be replaced as planned: since then, {why}.");
        let remedy = "Nothing was committed; run again.";
        return Err(Fault::new("StoreErrorCommitRefused", message).remedy(remedy).into());
    }
    Ok(())
}
