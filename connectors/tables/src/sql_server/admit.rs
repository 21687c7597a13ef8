//! What is asked of a target before anything is written: an engine that can keep what a commit promises, names that the
//! server keeps, no trigger that would put the rows elsewhere. Every statement here only reads.

use dmg_connector::Result;
use dmg_protocol::Fault;

use super::catalog::{Relation, SYNAPSE, texts};
use super::driver::Driver;

/// The longest name the server keeps, in units of UTF-16.
const NAME_UNITS_MAX: usize = 128;

/// Refuses a name that the server would not take.
pub(super) fn check_name(what: &str, name: &str) -> Result<()> {
    let units = name.encode_utf16().count();
    let why = match (units, name.contains('\0')) {
        (0, _) => "is empty".to_owned(),
        (_, true) => "holds a NUL character".to_owned(),
        (units, _) if units > NAME_UNITS_MAX => {
            format!("has {units} characters; SQL Server keeps names of up to {NAME_UNITS_MAX}")
        }
        _ => return Ok(()),
    };
    let remedy = "Map it to a shorter name, or choose another.";
    Err(Fault::new("UserErrorName", format!("The {what} \"{name}\" {why}.")).remedy(remedy).into())
}

/// Refuses to write to Synapse: there a transaction takes no CREATE or DROP, keys are not enforced, and nothing stands
/// in the way of two writers. What is promised of a commit could not be kept.
pub(super) async fn refuse_synapse(session: &mut dyn Driver) -> Result<()> {
    let sql = "SELECT CAST(SERVERPROPERTY('EngineEdition') AS int) AS edition";
    let edition = session.batch(sql).await?.into_iter().next().map(|row| texts(row)()).unwrap_or_default();
    if !SYNAPSE.contains(&edition.as_str()) {
        return Ok(());
    }
    let message = format!(
        "{} is Synapse, which cannot be written to: its transactions take no CREATE or DROP, and its keys are not \
         enforced, so rows and mark could not be committed in one step.",
        session.place()
    );
    let remedy = "Write to files in Azure Blob Storage and load them there with COPY INTO.";
    Err(Fault::new("UserErrorNotSupported", message).remedy(remedy).into())
}

/// Triggers of a table that will run when rows come and go. One that runs instead of what was said is refused: rows
/// would go where it puts them.
pub(super) async fn triggers(session: &mut dyn Driver, relation: &Relation) -> Result<Vec<String>> {
    let sql = "SELECT t.name, CAST(t.is_instead_of_trigger AS int) FROM sys.triggers t \
         WHERE t.parent_id = CAST(@P1 AS int) AND t.is_disabled = 0 ORDER BY t.name";
    let mut names = Vec::new();
    for row in session.query(sql, &[Some(&relation.id)]).await? {
        let mut next = texts(row);
        let (name, instead) = (next(), next() == "1");
        if instead {
            let message = format!("Table {} has the INSTEAD OF trigger \"{name}\".", relation.label());
            let remedy = "Disable the trigger for the copy, or name the table that it writes to.";
            return Err(Fault::new("UserErrorSettings", message).remedy(remedy).with("trigger", name).into());
        }
        names.push(name);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_as_the_server_counts_them() {
        for (name, fits) in [
            ("select".to_owned(), true),
            ("\u{e4}".repeat(128), true),
            ("\u{1f600}".repeat(64), true),
            ("\u{1f600}".repeat(65), false),
            ("x".repeat(129), false),
            (String::new(), false),
            ("a\0b".to_owned(), false),
        ] {
            let code = check_name("table name", &name).err().map(|error| error.fault.code);
            assert_eq!(code.as_deref(), (!fits).then_some("UserErrorName"), "{name}");
        }
    }
}
