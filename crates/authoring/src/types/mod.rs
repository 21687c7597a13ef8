//! Which type names there are in both dialects, what each must have, and which of them a connector of this release
//! serves. Names only; how members are read is the business of `store` and `bind`.

mod v1;
mod v2;

use crate::Dialect;

/// Names of ours, the same in both dialects.
const OUR_LINKED_SERVICES: &[(&str, &[&str])] = &[("Sqlite", &["path|connectionString"])];
const OUR_DATASETS: &[(&str, &[&str])] = &[("SqliteTable", &[])];
const OUR_SOURCES: &[&str] = &["SqliteSource"];
const OUR_SINKS: &[&str] = &["SqliteSink", "PostgreSqlSink", "MySqlSink"];

/// Types whose published contract asks for more than their use needs: what the contract alone asks for is a
/// warning, what is listed here an error.
const RELAXED: &[(&str, &[&str])] = &[
    ("PostgreSql", &["connectionString|server"]),
    ("PostgreSqlV2", &["server", "database", "username"]),
    ("AzurePostgreSql", &["connectionString|server"]),
    ("AzureBlobStorage", &["connectionString|sasUri|serviceEndpoint|containerUri"]),
    ("AzureStorage", &["connectionString|sasUri"]),
];

/// Linked service types that a connector serves: dialect, type, connector.
const SERVED: &[(Dialect, &str, &str)] = &[
    (Dialect::V1, "OnPremisesPostgreSql", "postgres"),
    (Dialect::V1, "AzureStorage", "azblob"),
    (Dialect::V1, "AzureStorageSas", "azblob"),
    (Dialect::V1, "OnPremisesFileServer", "file"),
    (Dialect::V1, "Sqlite", "sqlite"),
    (Dialect::V1, "OnPremisesMySql", "mysql"),
    (Dialect::V1, "OnPremisesSqlServer", "sqlserver"),
    (Dialect::V1, "AzureSqlDatabase", "sqlserver"),
    (Dialect::V1, "AzureSqlDW", "sqlserver"),
    (Dialect::V2, "PostgreSql", "postgres"),
    (Dialect::V2, "PostgreSqlV2", "postgres"),
    (Dialect::V2, "AzurePostgreSql", "postgres"),
    (Dialect::V2, "AzureBlobStorage", "azblob"),
    (Dialect::V2, "AzureStorage", "azblob"),
    (Dialect::V2, "FileServer", "file"),
    (Dialect::V2, "Sqlite", "sqlite"),
    (Dialect::V2, "MySql", "mysql"),
    (Dialect::V2, "MariaDB", "mysql"),
    (Dialect::V2, "AzureMySql", "mysql"),
    (Dialect::V2, "AzureMariaDB", "mysql"),
    (Dialect::V2, "SqlServer", "sqlserver"),
    (Dialect::V2, "AzureSqlDatabase", "sqlserver"),
    (Dialect::V2, "AzureSqlMI", "sqlserver"),
    (Dialect::V2, "AzureSqlDW", "sqlserver"),
    (Dialect::V2, "AmazonRdsForSqlServer", "sqlserver"),
];

/// A type name and the members of `typeProperties` it must have; `a|b` means one of them.
pub(crate) struct TypeInfo {
    /// The name in its usual spelling.
    pub(crate) name: &'static str,
    /// Members without which it cannot be used.
    pub(crate) required: &'static [&'static str],
    /// Members the published contract asks for beyond that.
    pub(crate) expected: &'static [&'static str],
}

type Row = (&'static str, &'static [&'static str]);

fn row(tables: &[&'static [Row]], name: &str) -> Option<Row> {
    tables.iter().flat_map(|table| table.iter()).find(|(known, _)| known.eq_ignore_ascii_case(name)).copied()
}

/// The linked service type of that name.
pub(crate) fn linked_service(dialect: Dialect, name: &str) -> Option<TypeInfo> {
    let tables: &[&[Row]] = match dialect {
        Dialect::V1 => &[v1::LINKED_SERVICES, OUR_LINKED_SERVICES],
        Dialect::V2 => &[v2::LINKED_SERVICES, OUR_LINKED_SERVICES],
    };
    let (name, required) = row(tables, name)?;
    Some(match RELAXED.iter().find(|(known, _)| dialect == Dialect::V2 && *known == name) {
        Some((_, relaxed)) => TypeInfo { name, required: relaxed, expected: required },
        None => TypeInfo { name, required, expected: &[] },
    })
}

/// The dataset type of that name.
pub(crate) fn dataset(dialect: Dialect, name: &str) -> Option<TypeInfo> {
    let tables: &[&[Row]] = match dialect {
        Dialect::V1 => &[v1::DATASETS, OUR_DATASETS],
        Dialect::V2 => &[v2::DATASETS, OUR_DATASETS],
    };
    row(tables, name).map(|(name, required)| TypeInfo { name, required, expected: &[] })
}

/// The activity type of that name.
pub(crate) fn activity(dialect: Dialect, name: &str) -> Option<TypeInfo> {
    let table = match dialect {
        Dialect::V1 => v1::ACTIVITIES,
        Dialect::V2 => v2::ACTIVITIES,
    };
    row(&[table], name).map(|(name, required)| TypeInfo { name, required, expected: &[] })
}

fn listed(tables: [&[&'static str]; 2], name: &str) -> Option<&'static str> {
    tables.into_iter().flatten().find(|known| known.eq_ignore_ascii_case(name)).copied()
}

/// The usual spelling of a copy source's type.
pub(crate) fn source(dialect: Dialect, name: &str) -> Option<&'static str> {
    match dialect {
        Dialect::V1 => listed([v1::SOURCES, OUR_SOURCES], name),
        Dialect::V2 => listed([v2::SOURCES, OUR_SOURCES], name),
    }
}

/// The usual spelling of a copy sink's type.
pub(crate) fn sink(dialect: Dialect, name: &str) -> Option<&'static str> {
    match dialect {
        Dialect::V1 => listed([v1::SINKS, OUR_SINKS], name),
        Dialect::V2 => listed([v2::SINKS, OUR_SINKS], name),
    }
}

/// The connector that serves a linked service type, if this release has one.
pub(crate) fn connector(dialect: Dialect, name: &str) -> Option<&'static str> {
    SERVED
        .iter()
        .find(|(known_dialect, known, _)| *known_dialect == dialect && known.eq_ignore_ascii_case(name))
        .map(|(_, _, connector)| *connector)
}

/// Whether version 1 asks for a gateway on this linked service type.
pub(crate) fn needs_gateway(name: &str) -> bool {
    v1::NEED_GATEWAY.iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn served_types_are_known() {
        for (dialect, name, _) in SERVED {
            assert_eq!(linked_service(*dialect, name).expect("known").name, *name);
        }
    }

    #[test]
    fn names_match_without_case() {
        assert_eq!(sink(Dialect::V2, "AzurePostgreSQLSink"), Some("AzurePostgreSqlSink"));
        assert_eq!(linked_service(Dialect::V1, "onpremisessqlserver").expect("known").name, "OnPremisesSqlServer");
        assert!(linked_service(Dialect::V1, "SqlServer").is_none());
        assert!(dataset(Dialect::V2, "PostgreSqlV2Table").is_some());
    }
}
