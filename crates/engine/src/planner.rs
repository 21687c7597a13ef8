//! Which column goes where, as what, and with which promise. Pure: schemas and mapping in, columns out.

use dmg_connector::{Column, Sink};
use dmg_protocol::job::{ColumnMapping, CopyOptions};
use dmg_protocol::{ColumnPlan, Fault, Verdict};

use crate::convert::{Conversion, conversion};

/// One planned column and how to get it.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub(crate) plan: ColumnPlan,
    /// Index of the column in the source's batches.
    pub(crate) source: usize,
    pub(crate) conversion: Conversion,
}

/// Plans all columns, in target order where the target has columns of its own, else in source order.
pub(crate) fn plan_columns(
    source: &[Column],
    target: Option<&[Column]>,
    mapping: &[ColumnMapping],
    options: &CopyOptions,
    sink: &dyn Sink,
) -> Result<Vec<Planned>, Fault> {
    refuse_doubles(source)?;
    let pairs = pairs(source, target, mapping)?;
    let mut planned = Vec::with_capacity(pairs.len());
    for (index, name, target_column) in pairs {
        let column = &source[index];
        let renamed = Column { name: name.clone(), ..column.clone() };
        let holding = sink.hold(&renamed, target_column);
        let Some((conversion, promise)) = conversion(column.kind, holding.kind) else {
            let message = format!(
                "Column \"{}\" of type {} cannot go into column \"{name}\" of type {}.",
                column.name, column.type_name, holding.type_name
            );
            return Err(Fault::new("UserErrorSchemaMismatch", message).with("column", &name));
        };
        let verdict = promise.max(holding.verdict);
        let reason = holding.reason.or_else(|| match promise {
            Verdict::Exact => None,
            _ => Some(format!("{} becomes {}", column.kind, holding.kind)),
        });
        if !options.allows(&name, verdict) {
            let message = format!(
                "Column \"{}\" would lose values on its way from {} to {}: {}.",
                column.name,
                column.type_name,
                holding.type_name,
                reason.as_deref().unwrap_or("the types differ")
            );
            return Err(Fault::new("UserErrorColumnLossy", message).with("column", &name));
        }
        planned.push(Planned {
            plan: ColumnPlan {
                source: column.name.clone(),
                sink: name,
                kind: holding.kind,
                source_type: column.type_name.clone(),
                sink_type: holding.type_name,
                key: column.key,
                required: !column.nullable,
                verdict,
                reason,
            },
            source: index,
            conversion,
        });
    }
    if planned.is_empty() {
        let message = "There is no column to copy: source and target have no column name in common.";
        return Err(Fault::new("UserErrorSchemaMismatch", message));
    }
    Ok(planned)
}

fn refuse_doubles(columns: &[Column]) -> Result<(), Fault> {
    for (index, column) in columns.iter().enumerate() {
        if columns[..index].iter().any(|other| other.name == column.name) {
            let message = format!("The source has two columns named \"{}\".", column.name);
            let remedy = "Give each column its own name, for example with AS in the query.";
            return Err(Fault::new("UserErrorSchemaMismatch", message).remedy(remedy));
        }
    }
    Ok(())
}

type Pair<'a> = (usize, String, Option<&'a Column>);

fn pairs<'a>(
    source: &[Column],
    target: Option<&'a [Column]>,
    mapping: &[ColumnMapping],
) -> Result<Vec<Pair<'a>>, Fault> {
    let find = |columns: &[Column], name: &str, side: &str| -> Result<usize, Fault> {
        position(columns, name).ok_or_else(|| {
            let known = columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
            let message = format!("The {side} has no column \"{name}\". It has: {known}.");
            Fault::new("UserErrorColumnMissing", message).with("column", name)
        })
    };
    let mut pairs: Vec<Pair<'a>> = Vec::new();
    if mapping.is_empty() {
        for (index, column) in source.iter().enumerate() {
            let Some(target) = target else {
                pairs.push((index, column.name.clone(), None));
                continue;
            };
            let found = &target[find(target, &column.name, "target")?];
            pairs.push((index, found.name.clone(), Some(found)));
        }
    }
    for line in mapping {
        let index = find(source, &line.source, "source")?;
        let found = match target {
            Some(target) => Some(&target[find(target, &line.sink, "target")?]),
            None => None,
        };
        let name = found.map_or_else(|| line.sink.clone(), |column| column.name.clone());
        if pairs.iter().any(|(_, taken, _)| *taken == name) {
            return Err(Fault::new("UserErrorSchemaMismatch", format!("Two columns are mapped to \"{name}\".")));
        }
        pairs.push((index, name, found));
    }
    Ok(pairs)
}

/// By exact name, else by the one name that is equal without regard to case.
fn position(columns: &[Column], name: &str) -> Option<usize> {
    columns.iter().position(|column| column.name == name).or_else(|| {
        let mut alike = columns.iter().enumerate().filter(|(_, column)| column.name.eq_ignore_ascii_case(name));
        let first = alike.next();
        if alike.next().is_some() { None } else { first.map(|(index, _)| index) }
    })
}
