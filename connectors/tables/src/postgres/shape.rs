//! How rows get into the target: which ways are open, and why a better one is not. Everything here only looks.

use dmg_connector::Result;
use dmg_protocol::{CommitShape, Fault};

use super::catalog::{Relation, quoted};
use super::client::Client;

/// Most rows that are sent to the target itself, in the transaction of the commit.
const DIRECT_ROWS_MAX: u64 = 100_000;

/// What the commit does with the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// Rows go to the target itself, in a transaction that stays open until the commit.
    Direct,
    /// The staging table becomes the target, which does not exist yet.
    Become,
    /// The staging table takes the place of the target.
    Replace(Structure),
    /// Staged rows join those of the target.
    Insert,
    /// Staged rows come in place of all of the target's.
    DeleteAll,
    /// Staged rows come in place of those with the same key. Without a unique index, by hand and under a lock.
    Upsert { keys: Vec<String>, indexed: bool },
    /// Staged rows come in place of those of the same slice; the value as it stands in a statement.
    Slice { column: String, value: String },
    /// A routine is called for each staged row, by this statement.
    Call { statement: String },
}

impl Way {
    /// The word for it in plan and receipt.
    pub(super) fn shape(&self) -> CommitShape {
        match self {
            Way::Direct => CommitShape::Direct,
            Way::Become | Way::Replace(_) => CommitShape::Swap,
            Way::Insert | Way::DeleteAll | Way::Upsert { .. } | Way::Slice { .. } => CommitShape::Staged,
            Way::Call { .. } => CommitShape::Procedure,
        }
    }
}

/// What the source says will come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Expected {
    pub(super) rows: Option<u64>,
    pub(super) parts: usize,
}

impl Expected {
    /// Whether so little comes that staging it would be most of the work.
    pub(super) fn little(self) -> bool {
        self.parts == 1 && self.rows.is_some_and(|rows| rows <= DIRECT_ROWS_MAX)
    }
}

/// What a table that is replaced has beside its rows and columns, and the new one gets too.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Structure {
    pub(super) indexes: Vec<Index>,
    pub(super) comment: Option<String>,
    /// Sequences that belong to a column: name as it stands in a statement, column.
    pub(super) sequences: Vec<(String, String)>,
    /// Changes when columns, constraints, defaults or rights change.
    fingerprint: String,
}

/// An index, or the constraint it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) name: String,
    /// What follows `ADD CONSTRAINT name`, for a constraint.
    pub(super) constraint: Option<String>,
    pub(super) unique: bool,
    /// What follows `ON table`, for a plain index.
    pub(super) definition: String,
    pub(super) comment: Option<String>,
}

/// Reasons why a table cannot be replaced without somebody noticing: each line is one, as `it ...`.
const OBSTACLES: &str = "WITH t AS (SELECT * FROM pg_class WHERE oid = $1::oid) \
  SELECT 'is not a table of its own' FROM t \
   WHERE relkind <> 'r' OR relpersistence <> 'p' OR reloftype <> 0 OR relispartition \
    OR EXISTS (SELECT FROM pg_inherits WHERE t.oid IN (inhrelid, inhparent)) \
  UNION ALL SELECT 'belongs to another role' FROM t WHERE pg_get_userbyid(relowner) <> current_user \
  UNION ALL SELECT 'has triggers' FROM t \
   WHERE EXISTS (SELECT FROM pg_trigger WHERE tgrelid = t.oid AND NOT tgisinternal) \
  UNION ALL SELECT 'has foreign keys, or is what one points to' FROM t \
   WHERE EXISTS (SELECT FROM pg_constraint WHERE contype = 'f' AND t.oid IN (conrelid, confrelid)) \
  UNION ALL SELECT 'has rules' FROM t WHERE EXISTS (SELECT FROM pg_rewrite WHERE ev_class = t.oid) \
  UNION ALL SELECT 'has row security' FROM t \
   WHERE relrowsecurity OR EXISTS (SELECT FROM pg_policy WHERE polrelid = t.oid) \
  UNION ALL SELECT 'is published' FROM t WHERE EXISTS (SELECT FROM pg_publication_tables p \
   JOIN pg_namespace n ON n.nspname = p.schemaname WHERE n.oid = t.relnamespace AND p.tablename = t.relname) \
  UNION ALL SELECT 'has rights of its own' FROM t WHERE relacl IS NOT NULL \
    OR EXISTS (SELECT FROM pg_attribute WHERE attrelid = t.oid AND attacl IS NOT NULL) \
    OR EXISTS (SELECT FROM pg_seclabel WHERE objoid = t.oid AND classoid = 'pg_class'::regclass) \
  UNION ALL SELECT 'has identity columns' FROM t \
   WHERE EXISTS (SELECT FROM pg_attribute WHERE attrelid = t.oid AND attidentity <> '' AND NOT attisdropped) \
  UNION ALL SELECT 'has storage settings of its own' FROM t \
   WHERE reloptions IS NOT NULL OR reltablespace <> 0 OR relreplident <> 'd' \
    OR EXISTS (SELECT FROM pg_statistic_ext WHERE stxrelid = t.oid) \
    OR EXISTS (SELECT FROM pg_attribute WHERE attrelid = t.oid AND attnum > 0 \
     AND (attoptions IS NOT NULL OR coalesce(attstattarget, -1) >= 0)) \
    OR EXISTS (SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = t.oid \
     AND (i.indisclustered OR NOT i.indisvalid OR x.reltablespace <> 0)) \
    OR EXISTS (SELECT FROM pg_constraint WHERE conrelid = t.oid \
     AND (NOT convalidated OR contype IN ('p', 'u', 'x') AND obj_description(oid, 'pg_constraint') IS NOT NULL)) \
  UNION ALL SELECT 'is used by other objects, such as views' FROM t WHERE EXISTS (SELECT FROM pg_depend d \
   WHERE d.deptype IN ('n', 'e') AND (d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid \
     OR d.refclassid = 'pg_type'::regclass AND (d.refobjid = t.reltype \
      OR d.refobjid = (SELECT typarray FROM pg_type WHERE oid = t.reltype)) \
     OR d.deptype = 'e' AND d.classid = 'pg_class'::regclass AND d.objid = t.oid) \
   AND NOT (d.deptype = 'n' AND d.classid = 'pg_class'::regclass AND d.objid = t.oid) \
   AND NOT (d.classid = 'pg_constraint'::regclass \
    AND EXISTS (SELECT FROM pg_constraint k WHERE k.oid = d.objid AND k.conrelid = t.oid)) \
   AND NOT (d.classid = 'pg_attrdef'::regclass \
    AND EXISTS (SELECT FROM pg_attrdef f WHERE f.oid = d.objid AND f.adrelid = t.oid)) \
   AND NOT (d.classid = 'pg_class'::regclass \
    AND EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = d.objid AND i.indrelid = t.oid)))";

const INDEXES: &str = "SELECT x.relname, quote_ident(x.relname), i.indisunique, pg_get_indexdef(i.indexrelid), \
     pg_get_constraintdef(k.oid), obj_description(i.indexrelid, 'pg_class'), \
     quote_ident(n.nspname) || '.' || quote_ident(t.relname) \
     FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid \
     JOIN pg_namespace n ON n.oid = t.relnamespace \
     LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x') \
     WHERE i.indrelid = $1::oid ORDER BY NOT i.indisprimary, x.relname";

const SEQUENCES: &str = "SELECT quote_ident(n.nspname) || '.' || quote_ident(s.relname), a.attname FROM pg_depend d \
     JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_namespace n ON n.oid = s.relnamespace \
     JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid \
     WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'a' \
     AND d.refobjid = $1::oid ORDER BY 1";

const FINGERPRINT: &str = "SELECT coalesce(obj_description($1::oid, 'pg_class'), ''), md5(concat( \
     (SELECT string_agg(concat_ws(' ', a.attname, a.atttypid, a.atttypmod, a.attcollation, a.attnotnull, \
       a.attgenerated, a.attstorage, pg_get_expr(f.adbin, f.adrelid)), ',' ORDER BY a.attnum) \
      FROM pg_attribute a LEFT JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum \
      WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped), \
     (SELECT string_agg(concat_ws(' ', conname, pg_get_constraintdef(oid)), ',' ORDER BY conname) \
      FROM pg_constraint WHERE conrelid = $1::oid), \
     (SELECT string_agg(concat_ws(' ', objsubid, description), ',' ORDER BY objsubid) FROM pg_description \
      WHERE classoid = 'pg_class'::regclass AND objoid = $1::oid AND objsubid > 0)))";

/// What a replacement must rebuild, or why the table must stay: "it ...".
pub(super) async fn structure(client: &mut Client, oid: &str) -> Result<std::result::Result<Structure, String>> {
    if let Some(obstacle) = client.query(OBSTACLES, &[Some(oid)]).await?.single() {
        return Ok(Err(obstacle));
    }
    let mut indexes = Vec::new();
    for row in client.query(INDEXES, &[Some(oid)]).await?.rows {
        let Some(index) = index_of(row) else {
            return Ok(Err("has an index that cannot be built anew".to_owned()));
        };
        indexes.push(index);
    }
    let sequences = client.query(SEQUENCES, &[Some(oid)]).await?.rows.into_iter();
    let sequences = sequences.filter_map(|row| match <[Option<String>; 2]>::try_from(row) {
        Ok([Some(sequence), Some(column)]) => Some((sequence, column)),
        _ => None,
    });
    let sequences = sequences.collect();
    let row = client.query(FINGERPRINT, &[Some(oid)]).await?.rows.into_iter().next().unwrap_or_default();
    let mut values = row.into_iter().map(Option::unwrap_or_default);
    let comment = values.next().filter(|comment| !comment.is_empty());
    Ok(Ok(Structure { indexes, comment, sequences, fingerprint: values.next().unwrap_or_default() }))
}

fn index_of(row: Vec<Option<String>>) -> Option<Index> {
    let [name, in_statement, unique, definition, constraint, comment, table] =
        <[Option<String>; 7]>::try_from(row).ok()?;
    let unique = unique.as_deref() == Some("t");
    let kind = if unique { "UNIQUE INDEX" } else { "INDEX" };
    let head = format!("CREATE {kind} {} ON {} ", in_statement?, table?);
    let definition = definition?.strip_prefix(&head)?.to_owned();
    Some(Index { name: name?, constraint, unique, definition, comment })
}

/// The columns that identify a row: those named, else the primary key. Says whether an index guards them.
pub(super) async fn upsert(client: &mut Client, relation: &Relation, named: &[String]) -> Result<Way> {
    let sql = "SELECT i.indisprimary, array_to_json(ARRAY(SELECT a.attname::text FROM pg_attribute a \
         WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]) ORDER BY 1)) \
         FROM pg_index i WHERE i.indrelid = $1::oid AND i.indisunique AND i.indisvalid AND i.indimmediate \
         AND i.indpred IS NULL AND i.indexprs IS NULL ORDER BY NOT i.indisprimary";
    let rows = client.query(sql, &[Some(&relation.oid)]).await?.rows;
    let mut indexes = rows.into_iter().filter_map(|row| {
        let columns: Vec<String> = serde_json::from_str(row.get(1)?.as_deref()?).ok()?;
        Some((row.first()?.as_deref() == Some("t"), columns))
    });
    if named.is_empty() {
        return match indexes.next() {
            Some((true, keys)) => Ok(Way::Upsert { keys, indexed: true }),
            _ => {
                let message = format!("Table {} has no primary key to replace rows by.", relation.label());
                let remedy = "Name the key columns of the upsert, or give the table a primary key.";
                Err(Fault::new("UserErrorSettings", message).remedy(remedy).into())
            }
        };
    }
    let mut keys = named.to_vec();
    keys.sort();
    keys.dedup();
    let indexed = indexes.any(|(_, columns)| columns == keys);
    Ok(Way::Upsert { keys, indexed })
}

/// Refuses to delete rows of a table where that would delete or change rows of another one beside it.
pub(super) async fn refuse_cascades(client: &mut Client, relation: &Relation) -> Result<()> {
    let sql = "SELECT conname, conrelid::regclass FROM pg_constraint WHERE contype = 'f' AND confrelid = $1::oid \
         AND confdeltype IN ('c', 'n', 'd') ORDER BY 1 LIMIT 1";
    let row = client.query(sql, &[Some(&relation.oid)]).await?.rows.into_iter().next();
    let Some([Some(constraint), Some(other)]) = row.and_then(|row| <[Option<String>; 2]>::try_from(row).ok()) else {
        return Ok(());
    };
    let message = format!(
        "Rows of {} cannot be deleted and written anew: foreign key \"{constraint}\" would change rows of {other} with them.",
        relation.label()
    );
    let remedy = "Use mode upsert, or give the foreign key no action on delete.";
    Err(Fault::new("UserErrorSettings", message).remedy(remedy).with("constraint", constraint).into())
}

/// The value of a slice for a column of that base type, as it stands in a statement.
pub(super) fn slice_value(column: &str, kind: dmg_protocol::Kind, value: &str) -> Result<String> {
    let hexadecimal = value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    match kind {
        dmg_protocol::Kind::Bytes if hexadecimal => Ok(format!("'\\x{value}'::bytea")),
        dmg_protocol::Kind::Text if hexadecimal => Ok(format!("'{value}'")),
        _ if !hexadecimal => Err(Fault::new("UserErrorSettings", "The value of a slice has 64 hex digits.").into()),
        other => {
            let message = format!("Column \"{column}\" holds {other}, and the slice's value needs bytes or text.");
            let remedy = "Make the column bytea, or character varying(64).";
            Err(Fault::new("UserErrorSchemaMismatch", message).remedy(remedy).with("column", column).into())
        }
    }
}

/// Text as it stands in a statement; sessions of ours read backslashes as what they are.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// PostgreSQL cuts longer names off in silence.
const NAME_BYTES_MAX: usize = 63;

/// Refuses a name that the server would cut off.
pub(super) fn check_name(what: &str, name: &str) -> Result<()> {
    if !name.is_empty() && name.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    let message = format!(
        "The name of {what} {} has {} bytes; PostgreSQL takes 1 to {NAME_BYTES_MAX}.",
        quoted(name),
        name.len()
    );
    let remedy = "Choose a shorter name, or map the column to one.";
    Err(Fault::new("UserErrorName", message).remedy(remedy).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_rebuilt_only_from_a_definition_that_is_understood() {
        let row = |definition: &str| {
            let text = |text: &str| Some(text.to_owned());
            vec![text("My idx"), text("\"My idx\""), text("t"), text(definition), None, None, text("public.t")]
        };
        let index = index_of(row("CREATE UNIQUE INDEX \"My idx\" ON public.t USING btree (a)")).expect("understood");
        assert_eq!((index.name.as_str(), index.definition.as_str()), ("My idx", "USING btree (a)"));
        for odd in ["CREATE INDEX \"My idx\" ON public.t USING btree (a)", "CREATE UNIQUE INDEX x ON public.t USING b"]
        {
            assert_eq!(index_of(row(odd)), None, "{odd}");
        }
    }

    #[test]
    fn what_is_little() {
        for (rows, parts, little) in
            [(Some(10), 1, true), (None, 1, false), (Some(10), 2, false), (Some(DIRECT_ROWS_MAX + 1), 1, false)]
        {
            assert_eq!(Expected { rows, parts }.little(), little);
        }
    }

    #[test]
    fn values_of_slices() {
        let value = "ab".repeat(32);
        assert_eq!(slice_value("s", dmg_protocol::Kind::Bytes, &value).expect("fits"), format!("'\\x{value}'::bytea"));
        assert_eq!(slice_value("s", dmg_protocol::Kind::Text, &value).expect("fits"), format!("'{value}'"));
        assert!(slice_value("s", dmg_protocol::Kind::Int32, &value).is_err());
        assert!(slice_value("s", dmg_protocol::Kind::Text, "'; DROP TABLE t").is_err());
    }
}
