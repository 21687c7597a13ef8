//! The server's system views, each as columns and a query over the fixture's own tables.

pub(crate) struct View {
    pub(crate) name: &'static str,
    /// Names and types; an exclamation mark says NOT NULL.
    pub(crate) columns: &'static [(&'static str, &'static str)],
    pub(crate) sql: &'static str,
}

/// Every view that needs nothing but the database itself.
pub(crate) const VIEWS: &[View] = &[
    View {
        name: "sys.schemas",
        columns: &[("name", "sysname!"), ("schema_id", "int!"), ("principal_id", "int")],
        sql: "SELECT name, schema_id, 1 FROM fx_schemas",
    },
    View {
        name: "sys.objects",
        columns: &[
            ("name", "sysname!"),
            ("object_id", "int!"),
            ("schema_id", "int!"),
            ("parent_object_id", "int!"),
            ("type", "char(2)!"),
            ("type_desc", "nvarchar(60)"),
            ("create_date", "datetime!"),
            ("modify_date", "datetime!"),
            ("is_ms_shipped", "bit!"),
        ],
        sql: "SELECT o.name, o.object_id, s.schema_id, o.parent, substr(o.type || ' ', 1, 2),
                CASE o.type WHEN 'U' THEN 'USER_TABLE' WHEN 'V' THEN 'VIEW' WHEN 'P' THEN 'SQL_STORED_PROCEDURE'
                  WHEN 'PK' THEN 'PRIMARY_KEY_CONSTRAINT' WHEN 'UQ' THEN 'UNIQUE_CONSTRAINT' WHEN 'F' THEN 'FOREIGN_KEY_CONSTRAINT'
                  WHEN 'D' THEN 'DEFAULT_CONSTRAINT' WHEN 'C' THEN 'CHECK_CONSTRAINT' WHEN 'TR' THEN 'SQL_TRIGGER'
                  WHEN 'TT' THEN 'TYPE_TABLE' ELSE 'INTERNAL_TABLE' END,
                o.created, o.created, o.type = 'IT'
              FROM fx_objects o JOIN fx_schemas s ON s.name = o.schema WHERE o.type <> 'IT'",
    },
    View {
        name: "sys.tables",
        columns: &[
            ("name", "sysname!"),
            ("object_id", "int!"),
            ("schema_id", "int!"),
            ("type", "char(2)!"),
            ("type_desc", "nvarchar(60)"),
            ("create_date", "datetime!"),
            ("modify_date", "datetime!"),
            ("is_ms_shipped", "bit!"),
            ("temporal_type", "tinyint"),
            ("is_memory_optimized", "bit"),
            ("is_external", "bit!"),
            ("parent_object_id", "int!"),
        ],
        sql: "SELECT o.name, o.object_id, s.schema_id, 'U ', 'USER_TABLE', o.created, o.created, 0, 0, 0, 0, 0
              FROM fx_objects o JOIN fx_schemas s ON s.name = o.schema WHERE o.type = 'U'",
    },
    View {
        name: "sys.views",
        columns: &[
            ("name", "sysname!"),
            ("object_id", "int!"),
            ("schema_id", "int!"),
            ("type", "char(2)!"),
            ("type_desc", "nvarchar(60)"),
            ("create_date", "datetime!"),
            ("modify_date", "datetime!"),
            ("is_ms_shipped", "bit!"),
        ],
        sql: "SELECT o.name, o.object_id, s.schema_id, 'V ', 'VIEW', o.created, o.created, 0
              FROM fx_objects o JOIN fx_schemas s ON s.name = o.schema WHERE o.type = 'V'",
    },
    View {
        name: "sys.procedures",
        columns: &[
            ("name", "sysname!"),
            ("object_id", "int!"),
            ("schema_id", "int!"),
            ("type", "char(2)!"),
            ("type_desc", "nvarchar(60)"),
            ("create_date", "datetime!"),
            ("modify_date", "datetime!"),
            ("is_ms_shipped", "bit!"),
        ],
        sql: "SELECT o.name, o.object_id, s.schema_id, 'P ', 'SQL_STORED_PROCEDURE', o.created, o.created, 0
              FROM fx_objects o JOIN fx_schemas s ON s.name = o.schema WHERE o.type = 'P'",
    },
    View { name: "sys.all_objects", columns: ALL_OBJECTS, sql: ALL_OBJECTS_SQL },
    View { name: "sys.columns", columns: COLUMNS, sql: COLUMNS_SQL },
    View { name: "sys.all_columns", columns: COLUMNS, sql: COLUMNS_SQL },
    View {
        name: "sys.types",
        columns: &[
            ("name", "sysname!"),
            ("system_type_id", "tinyint!"),
            ("user_type_id", "int!"),
            ("schema_id", "int!"),
            ("max_length", "smallint!"),
            ("precision", "tinyint!"),
            ("scale", "tinyint!"),
            ("collation_name", "sysname"),
            ("is_nullable", "bit"),
            ("is_user_defined", "bit!"),
            ("is_assembly_type", "bit!"),
            ("is_table_type", "bit!"),
        ],
        sql: "SELECT name, system_type_id, user_type_id, schema_id, max_length, precision, scale, NULL, 1, is_table,
                system_type_id = 240, is_table FROM fx_types",
    },
    View {
        name: "sys.table_types",
        columns: &[
            ("name", "sysname!"),
            ("system_type_id", "tinyint!"),
            ("user_type_id", "int!"),
            ("schema_id", "int!"),
            ("type_table_object_id", "int!"),
            ("is_user_defined", "bit!"),
            ("is_table_type", "bit!"),
        ],
        sql: "SELECT name, system_type_id, user_type_id, schema_id, object_id, 1, 1 FROM fx_types WHERE is_table = 1",
    },
    View {
        name: "sys.indexes",
        columns: &[
            ("object_id", "int!"),
            ("name", "sysname"),
            ("index_id", "int!"),
            ("type", "tinyint!"),
            ("type_desc", "nvarchar(60)"),
            ("is_unique", "bit"),
            ("is_primary_key", "bit"),
            ("is_unique_constraint", "bit"),
            ("is_disabled", "bit"),
            ("has_filter", "bit"),
            ("is_hypothetical", "bit"),
            ("ignore_dup_key", "bit"),
            ("filter_definition", "nvarchar(max)"),
            ("fill_factor", "tinyint!"),
        ],
        sql: "SELECT object_id, name, index_id, CASE WHEN clustered THEN 1 ELSE 2 END,
                CASE WHEN clustered THEN 'CLUSTERED' ELSE 'NONCLUSTERED' END, is_unique, is_primary, is_constraint, 0,
                filter IS NOT NULL, 0, 0, filter, 0 FROM fx_indexes
              UNION ALL SELECT object_id, NULL, 0, 0, 'HEAP', 0, 0, 0, 0, 0, 0, 0, NULL, 0 FROM fx_objects o WHERE type = 'U'
                AND NOT EXISTS (SELECT 1 FROM fx_indexes i WHERE i.object_id = o.object_id AND i.clustered)",
    },
    View {
        name: "sys.index_columns",
        columns: &[
            ("object_id", "int!"),
            ("index_id", "int!"),
            ("index_column_id", "int!"),
            ("column_id", "int!"),
            ("key_ordinal", "tinyint!"),
            ("partition_ordinal", "tinyint!"),
            ("is_descending_key", "bit"),
            ("is_included_column", "bit"),
        ],
        sql: "SELECT object_id, index_id, index_column_id, column_id, key_ordinal, 0, descending, included FROM fx_index_columns",
    },
    View {
        name: "sys.key_constraints",
        columns: &[
            ("name", "sysname!"),
            ("object_id", "int!"),
            ("schema_id", "int!"),
            ("parent_object_id", "int!"),
            ("type", "char(2)!"),
            ("type_desc", "nvarchar(60)"),
            ("unique_index_id", "int"),
        ],
        sql: "SELECT o.name, o.object_id, s.schema_id, o.parent, o.type,
                CASE o.type WHEN 'PK' THEN 'PRIMARY_KEY_CONSTRAINT' ELSE 'UNIQUE_CONSTRAINT' END, i.index_id
              FROM fx_objects o JOIN fx_schemas s ON s.name = o.schema
              JOIN fx_indexes i ON i.object_id = o.parent AND i.name = o.name WHERE o.type IN ('PK', 'UQ')",
    },
    View {
        name: "sys.identity_columns",
        columns: &[
            ("object_id", "int!"),
            ("name", "sysname"),
            ("column_id", "int!"),
            ("seed_value", "sql_variant"),
            ("increment_value", "sql_variant"),
            ("last_value", "sql_variant"),
            ("is_identity", "bit!"),
        ],
        sql: "SELECT object_id, name, column_id, NULL, NULL, NULL, 1 FROM fx_columns WHERE identity",
    },
    View {
        name: "sys.computed_columns",
        columns: &[
            ("object_id", "int!"),
            ("name", "sysname"),
            ("column_id", "int!"),
            ("definition", "nvarchar(max)"),
            ("is_persisted", "bit!"),
            ("is_computed", "bit!"),
        ],
        sql: "SELECT object_id, name, column_id, '(' || computed_text || ')', persisted, 1 FROM fx_columns
              WHERE computed_text IS NOT NULL",
    },
    View {
        name: "sys.default_constraints",
        columns: &[
            ("name", "sysname!"),
            ("object_id", "int!"),
            ("schema_id", "int!"),
            ("parent_object_id", "int!"),
            ("parent_column_id", "int!"),
            ("type", "char(2)!"),
            ("definition", "nvarchar(max)"),
        ],
        sql: "SELECT o.name, o.object_id, s.schema_id, o.parent, c.column_id, 'D ', '(' || c.default_text || ')'
              FROM fx_objects o JOIN fx_schemas s ON s.name = o.schema
              JOIN fx_columns c ON c.object_id = o.parent AND c.default_id = o.object_id WHERE o.type = 'D'",
    },
    View {
        name: "sys.check_constraints",
        columns: &[
            ("name", "sysname!"),
            ("object_id", "int!"),
            ("schema_id", "int!"),
            ("parent_object_id", "int!"),
            ("type", "char(2)!"),
            ("definition", "nvarchar(max)"),
            ("is_disabled", "bit!"),
            ("is_not_trusted", "bit!"),
        ],
        sql: "SELECT o.name, o.object_id, s.schema_id, o.parent, 'C ', o.definition, o.disabled, o.disabled
              FROM fx_objects o JOIN fx_schemas s ON s.name = o.schema WHERE o.type = 'C'",
    },
    View {
        name: "sys.foreign_keys",
        columns: &[
            ("name", "sysname!"),
            ("object_id", "int!"),
            ("schema_id", "int!"),
            ("parent_object_id", "int!"),
            ("referenced_object_id", "int"),
            ("type", "char(2)!"),
            ("is_disabled", "bit!"),
            ("is_not_trusted", "bit!"),
        ],
        sql: "SELECT o.name, o.object_id, s.schema_id, f.parent, f.referenced, 'F ', 0, 0
              FROM fx_foreign f JOIN fx_objects o ON o.object_id = f.object_id JOIN fx_schemas s ON s.name = o.schema",
    },
    View {
        name: "sys.foreign_key_columns",
        columns: &[
            ("constraint_object_id", "int!"),
            ("constraint_column_id", "int!"),
            ("parent_object_id", "int!"),
            ("parent_column_id", "int!"),
            ("referenced_object_id", "int!"),
            ("referenced_column_id", "int!"),
        ],
        sql: "SELECT c.object_id, c.ordinal, f.parent, c.parent_column, f.referenced, c.referenced_column
              FROM fx_foreign_columns c JOIN fx_foreign f ON f.object_id = c.object_id",
    },
    View {
        name: "sys.triggers",
        columns: &[
            ("name", "sysname!"),
            ("object_id", "int!"),
            ("parent_class", "tinyint!"),
            ("parent_id", "int!"),
            ("type", "char(2)!"),
            ("is_disabled", "bit!"),
            ("is_instead_of_trigger", "bit!"),
        ],
        sql: "SELECT name, object_id, 1, parent, 'TR', 0, definition LIKE '%INSTEAD OF%' FROM fx_objects WHERE type = 'TR'",
    },
    View {
        name: "sys.sql_modules",
        columns: &[("object_id", "int!"), ("definition", "nvarchar(max)")],
        sql: "SELECT object_id, definition FROM fx_objects WHERE type IN ('P', 'V', 'TR')",
    },
    View {
        name: "sys.parameters",
        columns: &[
            ("object_id", "int!"),
            ("name", "sysname"),
            ("parameter_id", "int!"),
            ("system_type_id", "tinyint!"),
            ("user_type_id", "int!"),
            ("max_length", "smallint!"),
            ("precision", "tinyint!"),
            ("scale", "tinyint!"),
            ("is_output", "bit!"),
            ("has_default_value", "bit!"),
            ("is_readonly", "bit!"),
        ],
        sql: "SELECT object_id, name, parameter_id, system_type_id, user_type_id, max_length, precision, scale, is_output,
                has_default, system_type_id = 243 FROM fx_parameters",
    },
    View {
        name: "sys.extended_properties",
        columns: &[
            ("class", "tinyint!"),
            ("class_desc", "nvarchar(60)"),
            ("major_id", "int!"),
            ("minor_id", "int!"),
            ("name", "sysname!"),
            ("value", "nvarchar(4000)"),
        ],
        sql: "SELECT 1, 'OBJECT_OR_COLUMN', object_id, minor_id, name, value FROM fx_properties",
    },
    View {
        name: "sys.synonyms",
        columns: &[("name", "sysname!"), ("object_id", "int!"), ("schema_id", "int!"), ("base_object_name", "nvarchar(1035)")],
        sql: "SELECT name, object_id, 1, '' FROM fx_objects WHERE type = 'SN'",
    },
    View {
        name: "information_schema.tables",
        columns: &[
            ("TABLE_CATALOG", "sysname"),
            ("TABLE_SCHEMA", "sysname"),
            ("TABLE_NAME", "sysname!"),
            ("TABLE_TYPE", "varchar(10)"),
        ],
        sql: "SELECT '$DATABASE', schema, name, CASE type WHEN 'U' THEN 'BASE TABLE' ELSE 'VIEW' END FROM fx_objects
              WHERE type IN ('U', 'V')",
    },
    View {
        name: "information_schema.schemata",
        columns: &[("CATALOG_NAME", "sysname"), ("SCHEMA_NAME", "sysname!"), ("SCHEMA_OWNER", "sysname")],
        sql: "SELECT '$DATABASE', name, 'dbo' FROM fx_schemas",
    },
    View {
        name: "information_schema.columns",
        columns: &[
            ("TABLE_CATALOG", "sysname"),
            ("TABLE_SCHEMA", "sysname"),
            ("TABLE_NAME", "sysname!"),
            ("COLUMN_NAME", "sysname"),
            ("ORDINAL_POSITION", "int"),
            ("COLUMN_DEFAULT", "nvarchar(4000)"),
            ("IS_NULLABLE", "varchar(3)"),
            ("DATA_TYPE", "sysname"),
            ("CHARACTER_MAXIMUM_LENGTH", "int"),
            ("CHARACTER_OCTET_LENGTH", "int"),
            ("NUMERIC_PRECISION", "tinyint"),
            ("NUMERIC_SCALE", "int"),
            ("DATETIME_PRECISION", "smallint"),
            ("CHARACTER_SET_NAME", "sysname"),
            ("COLLATION_NAME", "sysname"),
        ],
        sql: "SELECT '$DATABASE', o.schema, o.name, c.name, c.column_id, c.default_text,
                CASE WHEN c.nullable THEN 'YES' ELSE 'NO' END, c.type_name,
                CASE WHEN c.type_name IN ('nvarchar', 'nchar') AND c.max_length > 0 THEN c.max_length / 2
                  WHEN c.type_name IN ('varchar', 'char', 'binary', 'varbinary', 'nvarchar') THEN c.max_length
                  WHEN c.type_name IN ('text', 'image') THEN 2147483647 WHEN c.type_name = 'ntext' THEN 1073741823
                  WHEN c.type_name = 'xml' THEN -1 END,
                CASE WHEN c.type_name IN ('varchar', 'char', 'binary', 'varbinary', 'nvarchar', 'nchar') THEN c.max_length END,
                CASE WHEN c.system_type_id IN (48, 52, 56, 127, 59, 62, 60, 122, 106, 108) THEN c.precision END,
                CASE WHEN c.system_type_id IN (48, 52, 56, 127, 60, 122, 106, 108) THEN c.scale END,
                CASE WHEN c.system_type_id IN (40, 41, 42, 43, 58, 61) THEN c.scale END, NULL, c.collation
              FROM fx_columns c JOIN fx_objects o ON o.object_id = c.object_id WHERE o.type IN ('U', 'V')",
    },
];

const ALL_OBJECTS: &[(&str, &str)] = &[
    ("name", "sysname!"),
    ("object_id", "int!"),
    ("schema_id", "int!"),
    ("type", "char(2)!"),
    ("create_date", "datetime!"),
    ("is_ms_shipped", "bit!"),
];
const ALL_OBJECTS_SQL: &str = "SELECT o.name, o.object_id, s.schema_id, substr(o.type || ' ', 1, 2), o.created, 0
  FROM fx_objects o JOIN fx_schemas s ON s.name = o.schema WHERE o.type <> 'IT'";

const COLUMNS: &[(&str, &str)] = &[
    ("object_id", "int!"),
    ("name", "sysname"),
    ("column_id", "int!"),
    ("system_type_id", "tinyint!"),
    ("user_type_id", "int!"),
    ("max_length", "smallint!"),
    ("precision", "tinyint!"),
    ("scale", "tinyint!"),
    ("collation_name", "sysname"),
    ("is_nullable", "bit"),
    ("is_identity", "bit!"),
    ("is_computed", "bit!"),
    ("is_sparse", "bit"),
    ("is_column_set", "bit"),
    ("is_rowguidcol", "bit!"),
    ("is_hidden", "bit"),
    ("generated_always_type", "tinyint"),
    ("default_object_id", "int!"),
    ("is_masked", "bit!"),
    ("encryption_type", "int"),
    ("graph_type", "int"),
    ("xml_collection_id", "int!"),
];
const COLUMNS_SQL: &str = "SELECT object_id, name, column_id, system_type_id, user_type_id, max_length, precision, scale,
  collation, nullable, identity, computed_text IS NOT NULL, sparse, 0, 0, 0, 0, default_id, 0, NULL, NULL, 0 FROM fx_columns";
