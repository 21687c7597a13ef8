//! Pipelines of both dialects to jobs.

use std::collections::BTreeMap;

use dmg_protocol::job::{CopyJob, FormatSpec, LogLevel, StoreObject};
use serde_json::json;

use super::*;

/// A factory's documents.
#[derive(Default)]
struct Documents {
    linked_services: BTreeMap<String, (Dialect, Value)>,
    datasets: BTreeMap<String, (Dialect, Value)>,
}

impl Lookup for Documents {
    fn linked_service(&self, name: &str) -> Option<(Dialect, Value)> {
        self.linked_services.get(&name.to_lowercase()).cloned()
    }
    fn dataset(&self, name: &str) -> Option<(Dialect, Value)> {
        self.datasets.get(&name.to_lowercase()).cloned()
    }
    fn gateway(&self, name: &str) -> bool {
        name == "gw" || name == "other"
    }
}

impl Documents {
    fn service(mut self, dialect: Dialect, name: &str, type_name: &str, members: Value) -> Self {
        let mut document = json!({"properties": {"type": type_name, "typeProperties": members}});
        if dialect == Dialect::V2 && ["PostgreSqlV2", "Sqlite"].contains(&type_name) {
            document["properties"]["connectVia"] =
                json!({"referenceName": "gw", "type": "IntegrationRuntimeReference"});
        }
        self.linked_services.insert(name.to_lowercase(), (dialect, document));
        self
    }

    fn dataset(mut self, dialect: Dialect, name: &str, service: &str, properties: Value) -> Self {
        let mut properties = properties;
        properties["linkedServiceName"] = match dialect {
            Dialect::V1 => json!(service),
            Dialect::V2 => json!({"referenceName": service, "type": "LinkedServiceReference"}),
        };
        self.datasets.insert(name.to_lowercase(), (dialect, json!({"properties": properties})));
        self
    }
}

fn v2_documents() -> Documents {
    use Dialect::V2;
    Documents::default()
        .service(V2, "Pg", "PostgreSqlV2", json!({"server": "db", "database": "sales", "username": "u", "encryptedCredential": "ENV"}))
        .service(V2, "Lite", "Sqlite", json!({"path": "/d/a.db"}))
        .service(V2, "Disk", "FileServer", json!({"host": "/data"}))
        .service(V2, "Blob", "AzureBlobStorage", json!({"connectionString": "AccountName=acct;AccountKey=**********", "encryptedCredential": "ENV2"}))
        .service(V2, "Ora", "Oracle", json!({"connectionString": "host=s"}))
        .dataset(V2, "Orders", "Pg", json!({"type": "PostgreSqlV2Table", "typeProperties": {"schema": "public", "table": "orders"}}))
        .dataset(V2, "Old", "Pg", json!({"type": "PostgreSqlTable", "typeProperties": {"tableName": "public.\"Odd.Name\""}}))
        .dataset(V2, "Nameless", "Pg", json!({"type": "PostgreSqlTable", "typeProperties": {}}))
        .dataset(V2, "LiteT", "Lite", json!({"type": "SqliteTable", "typeProperties": {"tableName": "t"}}))
        .dataset(V2, "OraT", "Ora", json!({"type": "OracleTable", "typeProperties": {"table": "t"}}))
        .dataset(V2, "Csv", "Disk", json!({"type": "DelimitedText", "parameters": {"f": {"type": "String", "defaultValue": "x.csv"}},
            "typeProperties": {"location": {"type": "FileServerLocation", "folderPath": ".\\in\\day", "fileName": "@dataset().f"}, "firstRowAsHeader": true},
            "schema": [{"name": "a", "type": "String"}, {"name": "b", "type": "Int32"}]}))
        .dataset(V2, "CsvFolder", "Disk", json!({"type": "DelimitedText", "typeProperties": {"location": {"type": "FileServerLocation", "folderPath": "in"},
            "escapeChar": "\"", "columnDelimiter": ";", "nullValue": "NA"}}))
        .dataset(V2, "Zipped", "Disk", json!({"type": "DelimitedText", "typeProperties": {"location": {"type": "FileServerLocation", "fileName": "a.gz"}, "compressionCodec": "gzip"}}))
        .dataset(V2, "Json", "Disk", json!({"type": "Json", "typeProperties": {"location": {"type": "FileServerLocation", "fileName": "a.json"}}}))
        .dataset(V2, "Pq", "Blob", json!({"type": "Parquet", "typeProperties": {"location": {"type": "AzureBlobStorageLocation",
            "container": "out", "folderPath": "orders", "fileName": "orders.parquet"}, "compressionCodec": "zstd"}}))
        .dataset(V2, "PqFolder", "Blob", json!({"type": "Parquet", "typeProperties": {"location": {"type": "AzureBlobStorageLocation", "container": "out"}}}))
        .dataset(V2, "PqWrong", "Blob", json!({"type": "Parquet", "typeProperties": {"location": {"type": "FileServerLocation", "fileName": "a"}}}))
        .dataset(V2, "OldBlob", "Blob", json!({"type": "AzureBlob", "typeProperties": {"folderPath": "box/sub/", "fileName": "a.txt",
            "format": {"type": "TextFormat", "columnDelimiter": "\t", "nullValue": ""}}}))
        .dataset(V2, "Bytes", "Blob", json!({"type": "AzureBlob", "typeProperties": {"folderPath": "box"}}))
}

fn run() -> RunContext {
    RunContext {
        run_id: "run-1".into(),
        group_id: "run-1".into(),
        trigger_type: "Manual".into(),
        trigger_name: "Manual".into(),
        trigger_id: "t".into(),
        now_micros: 1_514_793_600_000_000,
    }
}

fn bound(
    dialect: Dialect,
    documents: &Documents,
    properties: Value,
    parameters: Value,
) -> Result<Vec<BoundActivity>, Fault> {
    let parameters = parameters.as_object().cloned().expect("object");
    let factory = FactoryContext { id: "f-1".into(), name: "Fab".into() };
    bind("P", dialect, &json!({"properties": properties}), &parameters, &run(), documents, &factory)
}

fn v2_copy(input: &str, output: &str, members: Value) -> BoundActivity {
    let reference = |name: &str| json!([{"referenceName": name, "type": "DatasetReference"}]);
    let activity = json!({"name": "A", "type": "Copy", "inputs": reference(input), "outputs": reference(output), "typeProperties": members});
    bound(Dialect::V2, &v2_documents(), json!({"activities": [activity]}), json!({})).expect("binds").remove(0)
}

fn copy_job(activity: BoundActivity) -> CopyJob {
    match activity.work {
        Ok(Job::Copy(job)) => *job,
        other => panic!("not a copy: {other:?}"),
    }
}

fn ok(input: &str, output: &str, source: Value, sink: Value) -> CopyJob {
    copy_job(v2_copy(input, output, json!({"source": source, "sink": sink})))
}

#[test]
fn a_table_into_a_blob() {
    let activity = v2_copy(
        "Orders",
        "Pq",
        json!({
        "source": {"type": "PostgreSqlV2Source", "queryTimeout": "02:00:00", "partitionOption": "None"},
        "sink": {"type": "ParquetSink", "storeSettings": {"type": "AzureBlobStorageWriteSettings"}, "formatSettings": {"type": "ParquetWriteSettings"}},
        "enableStaging": false, "parallelCopies": 4,
        "translator": {"type": "TabularTranslator", "mappings": [{"source": {"name": "id", "type": "Int32"}, "sink": {"name": "key"}}]}}),
    );
    assert_eq!(activity.gateway.as_deref(), Some("gw"));
    let job = copy_job(activity);
    insta::assert_snapshot!(serde_json::to_string_pretty(&job).expect("serialises"));
}

#[test]
fn objects() {
    let pg = json!({"type": "PostgreSqlSource"});
    let parquet = json!({"type": "ParquetSink"});
    let table = |schema: Option<&str>, name: &str| StoreObject::Table {
        schema: schema.map(str::to_owned),
        table: name.to_owned(),
    };
    let files = |folder: &str, file: Option<&str>, recursive| StoreObject::Files {
        folder: folder.to_owned(),
        file: file.map(str::to_owned),
        recursive,
    };
    assert_eq!(ok("Old", "Pq", pg.clone(), parquet.clone()).source.object, table(Some("public"), "Odd.Name"));
    assert_eq!(ok("LiteT", "Pq", json!({"type": "SqliteSource"}), parquet.clone()).source.object, table(None, "t"));
    let query = json!({"type": "PostgreSqlSource", "query": "select '@{pipeline().RunId}' as r"});
    assert_eq!(
        ok("Nameless", "Pq", query, parquet.clone()).source.object,
        StoreObject::Query { text: "select 'run-1' as r".into() }
    );
    assert_eq!(
        ok("Old", "Pq", pg.clone(), parquet.clone()).sink.object,
        files("out/orders", Some("orders.parquet"), false)
    );
    assert_eq!(ok("Old", "PqFolder", pg.clone(), parquet.clone()).sink.object, files("out", None, false));
    assert_eq!(
        ok("Old", "OldBlob", pg.clone(), json!({"type": "BlobSink"})).sink.object,
        files("box/sub", Some("a.txt"), false)
    );
    let text =
        json!({"type": "DelimitedTextSource", "storeSettings": {"type": "FileServerReadSettings", "recursive": true}});
    assert_eq!(ok("Csv", "Pq", text.clone(), parquet.clone()).source.object, files("in/day", Some("x.csv"), false));
    assert_eq!(ok("CsvFolder", "Pq", text.clone(), parquet.clone()).source.object, files("in", None, true));
    let flat = json!({"type": "DelimitedTextSource", "storeSettings": {"recursive": false, "wildcardFileName": "*"}});
    assert_eq!(ok("Csv", "Pq", flat, parquet.clone()).source.object, files("in/day", None, false));
    // A single file keeps its name in a sink folder.
    assert_eq!(ok("Csv", "PqFolder", text, parquet).sink.object, files("out", Some("x.csv"), false));
}

#[test]
fn formats_of_both_models() {
    let text = json!({"type": "DelimitedTextSource", "formatSettings": {"type": "DelimitedTextReadSettings", "skipLineCount": 2}});
    let FormatSpec::Text(format) =
        ok("Csv", "Pq", text.clone(), json!({"type": "ParquetSink"})).source.format.expect("a format")
    else {
        panic!("text")
    };
    assert_eq!((format.quote_char, format.escape_char, format.skip_lines), (Some('"'), Some('\\'), 2));
    assert_eq!(
        (format.null_values, format.first_row_as_header, format.empty_as_null),
        (vec![String::new()], true, false)
    );
    let FormatSpec::Text(format) =
        ok("CsvFolder", "Pq", text, json!({"type": "ParquetSink"})).source.format.expect("a format")
    else {
        panic!("text")
    };
    assert_eq!(
        (format.column_delimiter.as_str(), format.escape_char, format.null_values),
        (";", Some('"'), vec!["NA".to_owned()])
    );
    let sink = json!({"type": "DelimitedTextSink", "formatSettings": {"type": "DelimitedTextWriteSettings", "quoteAllText": true, "fileExtension": ".txt"}});
    let FormatSpec::Text(format) =
        ok("Orders", "Csv", json!({"type": "PostgreSqlV2Source"}), sink).sink.format.expect("a format")
    else {
        panic!("text")
    };
    assert!(format.quote_all);
    let job = ok(
        "Orders",
        "OldBlob",
        json!({"type": "RelationalSource"}),
        json!({"type": "BlobSink", "blobWriterAddHeader": true}),
    );
    let FormatSpec::Text(format) = job.sink.format.expect("a format") else { panic!("text") };
    assert_eq!(
        (format.column_delimiter.as_str(), format.quote_char, format.null_values),
        ("\t", None, vec![String::new()])
    );
    assert!(format.first_row_as_header && format.empty_as_null);
    assert_eq!(job.options.mode, dmg_protocol::WriteMode::Overwrite, "existing files are replaced");
    let bytes = ok("Orders", "Bytes", json!({"type": "RelationalSource"}), json!({"type": "BlobSink"}));
    assert_eq!(bytes.sink.format, Some(FormatSpec::Text(dmg_protocol::job::TextFormat::default())));
}

#[test]
fn sinks_and_options() {
    let source = json!({"type": "DelimitedTextSource"});
    let job = ok(
        "Csv",
        "Orders",
        source.clone(),
        json!({"type": "AzurePostgreSQLSink", "preCopyScript": "truncate x", "writeBatchSize": 100}),
    );
    assert_eq!(
        (job.options.mode, job.options.pre_copy_script.as_deref()),
        (dmg_protocol::WriteMode::Append, Some("truncate x"))
    );
    let declared: Vec<_> = job.source.declared.iter().map(|column| (column.name.as_str(), column.kind)).collect();
    assert_eq!(declared, [("a", Some(dmg_protocol::Kind::Text)), ("b", Some(dmg_protocol::Kind::Int32))]);
    let job = copy_job(v2_copy(
        "Csv",
        "Orders",
        json!({"source": source, "sink": {"type": "PostgreSqlSink", "writeMethod": "Overwrite", "tableOption": "autoCreate"},
        "verifyLevel": "full", "allowLossy": ["a"], "translator": {"type": "TabularTranslator", "columnMappings": "a: x, b: y"}}),
    ));
    assert_eq!((job.options.mode, job.options.create_table), (dmg_protocol::WriteMode::Overwrite, true));
    assert_eq!((job.options.verify, job.options.allow_lossy), (dmg_protocol::VerifyLevel::Full, vec!["a".to_owned()]));
    let lines: Vec<_> = job.mapping.iter().map(|line| (line.source.as_str(), line.sink.as_str())).collect();
    assert_eq!(lines, [("a", "x"), ("b", "y")]);
}

#[test]
fn limits_of_waiting() {
    let activity = v2_copy(
        "Orders",
        "Pq",
        json!({"source": {"type": "PostgreSqlV2Source", "queryTimeout": "00:10:00"}, "sink": {"type": "ParquetSink"},
            "stallTimeout": "00:00:00", "commitTimeout": "03:00:00"}),
    );
    let options = copy_job(activity).options;
    assert_eq!(options.query_timeout_millis, Some(600_000));
    assert_eq!((options.stall_timeout_millis, options.commit_timeout_millis), (Some(0), Some(10_800_000)));
}

#[test]
fn write_modes() {
    use dmg_protocol::WriteMode;
    let options = |sink: Value| ok("Csv", "Orders", json!({"type": "DelimitedTextSource"}), sink).options;
    let upsert = options(
        json!({"type": "AzurePostgreSqlSink", "writeMethod": "Upsert", "upsertSettings": {"keys": ["id", "day"]},
        "writeBatchSize": 500, "writeBatchTimeout": "00:10:00"}),
    );
    assert_eq!((upsert.mode, upsert.keys), (WriteMode::Upsert, vec!["id".to_owned(), "day".to_owned()]));
    assert_eq!((upsert.batch_rows, upsert.batch_timeout_seconds), (Some(500), Some(600)));
    let sliced = || {
        options(
            json!({"type": "PostgreSqlSink", "sliceIdentifierColumnName": "slice", "sqlWriterCleanupScript": "delete from x"}),
        )
    };
    let slice = sliced().slice.expect("a slice");
    assert_eq!((sliced().mode, slice.column.as_str(), slice.value.len()), (WriteMode::Slice, "slice", 64));
    assert_eq!(sliced().slice, Some(slice), "the same slice has the same value");
    assert_eq!(sliced().pre_copy_script.as_deref(), Some("delete from x"));
    let called = options(
        json!({"type": "PostgreSqlSink", "sqlWriterStoredProcedureName": "p", "sqlWriterTableType": "t",
        "storedProcedureTableTypeParameterName": "rows", "storedProcedureParameters": {"a": {"value": 1, "type": "Int32"}, "b": null}}),
    );
    let procedure = called.procedure.expect("a procedure");
    assert_eq!((called.mode, procedure.name.as_str()), (WriteMode::Procedure, "p"));
    assert_eq!((procedure.table_type.as_deref(), procedure.table_parameter.as_deref()), (Some("t"), Some("rows")));
    assert_eq!(procedure.parameters.len(), 2);
    let lite = ok(
        "Orders",
        "LiteT",
        json!({"type": "PostgreSqlSource"}),
        json!({"type": "SqliteSink", "writeBehavior": "overwrite"}),
    );
    assert_eq!((lite.sink.store.store.as_str(), lite.options.mode), ("sqlite", WriteMode::Overwrite));
}

#[test]
fn a_procedure_of_sql_server_is_a_source() {
    use Dialect::V2;
    let members = json!({"server": "s", "database": "d", "authenticationType": "SQL", "userName": "u", "encryptedCredential": "ENV"});
    let documents = v2_documents().service(V2, "Sql", "AzureSqlDatabase", members).dataset(
        V2,
        "SqlT",
        "Sql",
        json!({"type": "AzureSqlTable", "typeProperties": {"schema": "dbo", "table": "t"}}),
    );
    let job = |source: Value| {
        let reference = |name: &str| json!([{"referenceName": name, "type": "DatasetReference"}]);
        let activity = json!({"name": "A", "type": "Copy", "inputs": reference("SqlT"), "outputs": reference("Pq"),
            "typeProperties": {"source": source, "sink": {"type": "ParquetSink"}}});
        let mut bound = bound(V2, &documents, json!({"activities": [activity]}), json!({})).expect("binds");
        bound.remove(0).work
    };
    let called = job(
        json!({"type": "AzureSqlSource", "sqlReaderStoredProcedureName": "[dbo].[odd ]] name; DROP TABLE t]",
        "storedProcedureParameters": {"from": {"value": "it's", "type": "String"}, "n; x": {"value": 7, "type": "Int32"}, "to": null}}),
    );
    let Ok(Job::Copy(called)) = called else { panic!("binds") };
    let text = "EXEC [dbo].[odd ]] name; DROP TABLE t] @from = N'it''s', @nx = N'7', @to = NULL";
    assert_eq!(called.source.object, StoreObject::Query { text: text.to_owned() });
    let both =
        job(json!({"type": "AzureSqlSource", "sqlReaderStoredProcedureName": "p", "sqlReaderQuery": "SELECT 1"}));
    assert_eq!(both.expect_err("one of them").code, "UserErrorDocument");
}

#[test]
fn slices_differ_by_activity_and_parameters() {
    let reference = |name: &str| json!([{"referenceName": name, "type": "DatasetReference"}]);
    let value = |activity: &str, day: &str| {
        let activity = json!({"name": activity, "type": "Copy", "inputs": reference("Csv"), "outputs": reference("Orders"),
            "typeProperties": {"source": {"type": "DelimitedTextSource"}, "sink": {"type": "PostgreSqlSink", "sliceIdentifierColumnName": "s"}}});
        let pipeline = json!({"parameters": {"day": {"type": "String"}}, "activities": [activity]});
        let mut bound = bound(Dialect::V2, &v2_documents(), pipeline, json!({"day": day})).expect("binds");
        copy_job(bound.remove(0)).options.slice.expect("a slice").value
    };
    assert_eq!(value("A", "1"), value("A", "1"));
    assert_ne!(value("A", "1"), value("A", "2"));
    assert_ne!(value("A", "1"), value("B", "1"));
}

#[test]
fn added_columns_and_tolerance() {
    use dmg_protocol::job::AddedValue;
    let source = json!({"type": "DelimitedTextSource", "additionalColumns": [
        {"name": "file", "value": "$$FILEPATH"}, {"name": "twice", "value": "$$COLUMN:a"}, {"name": "run", "value": "@pipeline().RunId"},
        {"name": "n", "value": 7}, {"name": "row", "value": "$$ROWNUMBER"}, {"name": "id", "value": "$$runid"}]});
    let job = copy_job(v2_copy(
        "Csv",
        "Pq",
        json!({"source": source, "sink": {"type": "ParquetSink"},
        "enableSkipIncompatibleRow": true, "maxSkippedRows": 10, "maxSkippedPercent": 2.5, "driftPolicy": "add", "rowsPerSecond": 100,
        "redirectIncompatibleRowSettings": {"linkedServiceName": {"referenceName": "Disk", "type": "LinkedServiceReference"}, "path": "bad/rows/"}}),
    ));
    let text = |text: &str| AddedValue::Text { text: text.to_owned() };
    let added: Vec<_> = job.options.added.into_iter().map(|column| column.value).collect();
    let again = AddedValue::Column { column: "a".to_owned() };
    assert_eq!(
        added,
        [AddedValue::SourceFile, again, text("run-1"), text("7"), AddedValue::RowNumber, AddedValue::RunId]
    );
    assert_eq!((job.options.drift, job.options.rows_per_second), (dmg_protocol::job::Drift::Add, Some(100)));
    let tolerance = job.options.tolerance.expect("rows are skipped");
    assert_eq!((tolerance.rows_max, tolerance.share_max), (Some(10), Some(0.025)));
    let redirect = tolerance.redirect.expect("a place");
    assert_eq!((redirect.store.store.as_str(), redirect.folder.as_str()), ("file", "bad/rows"));
    assert_eq!(redirect.layout, dmg_protocol::job::RedirectLayout::Original);
    let logged = copy_job(v2_copy(
        "Orders",
        "Pq",
        json!({"source": {"type": "PostgreSqlSource"}, "sink": {"type": "ParquetSink"},
        "enableSkipIncompatibleRow": true, "logSettings": {"enableCopyActivityLog": true, "logLocationSettings": {
        "linkedServiceName": {"referenceName": "Disk", "type": "LinkedServiceReference"}, "path": "log"}}}),
    ));
    assert_eq!(logged.options.tolerance.expect("rows are skipped").redirect, None);
    let log = logged.options.log.expect("a log");
    assert_eq!((log.folder.as_str(), log.level), ("log", LogLevel::Warning));
}

#[test]
fn a_log_stands_without_skipped_rows() {
    let disk = json!({"referenceName": "Disk", "type": "LinkedServiceReference"});
    let bound_with = |more: Value| {
        let mut members = json!({"source": {"type": "PostgreSqlSource"}, "sink": {"type": "ParquetSink"}});
        members.as_object_mut().expect("members").extend(more.as_object().cloned().unwrap_or_default());
        v2_copy("Orders", "Pq", members)
    };
    let log = |level| {
        json!({"enableCopyActivityLog": true, "copyActivityLogSettings": {"logLevel": level},
        "logLocationSettings": {"linkedServiceName": disk, "path": "/log/"}})
    };
    let older = json!({"linkedServiceName": disk, "path": "log", "logLevel": "info"});
    for more in [json!({"logSettings": log("Info")}), json!({"logStorageSettings": older})] {
        let options = copy_job(bound_with(more)).options;
        let log = options.log.expect("a log");
        assert_eq!((options.tolerance, log.folder.as_str(), log.level), (None, "log", LogLevel::Info));
    }
    let off = json!({"enableCopyActivityLog": false, "logLocationSettings": {"linkedServiceName": disk}});
    assert_eq!(copy_job(bound_with(json!({"logSettings": off}))).options.log, None);
    let said = |more: Value| bound_with(more).work.err().map(|fault| fault.message).unwrap_or_default();
    let redirect = json!({"linkedServiceName": disk, "path": "bad"});
    assert!(said(json!({"redirectIncompatibleRowSettings": redirect})).contains("skips no rows"));
    let both = json!({"enableSkipIncompatibleRow": true, "redirectIncompatibleRowSettings": redirect, "logSettings": log("Warning")});
    assert!(said(both).contains("in redirectIncompatibleRowSettings and in logSettings"));
}

#[test]
fn what_a_log_cannot_do_is_said() {
    let bound_with = |log: Value, more: Value| {
        let mut settings = json!({"enableCopyActivityLog": true, "copyActivityLogSettings": log, "logLocationSettings": {
            "linkedServiceName": {"referenceName": "Disk", "type": "LinkedServiceReference"}, "path": "log"}});
        settings.as_object_mut().expect("members").extend(more.as_object().cloned().unwrap_or_default());
        let members = json!({"source": {"type": "PostgreSqlSource"}, "sink": {"type": "ParquetSink"},
            "enableSkipIncompatibleRow": true, "logSettings": settings});
        v2_copy("Orders", "Pq", members)
    };
    for log in
        [json!({"logLevel": "Warning", "enableReliableLogging": true}), json!({"logLevel": "warning"}), json!({})]
    {
        assert_eq!(copy_job(bound_with(log, json!({}))).options.log.map(|log| log.level), Some(LogLevel::Warning));
    }
    let code = |log, more| bound_with(log, more).work.err().map_or_else(String::new, |fault| fault.code);
    assert_eq!(code(json!({"logLevel": "Loud"}), json!({})), "UserErrorDocument");
    assert_eq!(code(json!({"enableReliableLogging": "perhaps"}), json!({})), "UserErrorDocument");
    assert_eq!(code(json!({"color": 1}), json!({})), "UserErrorNotSupported");
    assert_eq!(code(json!({}), json!({"rotate": true})), "UserErrorNotSupported");
}

#[test]
fn types_cultures_and_formats_of_a_mapping() {
    use dmg_protocol::Kind;
    let line = |source: Value, sink: Value, input: &str| {
        let type_name = if input == "Csv" { "DelimitedTextSource" } else { "PostgreSqlSource" };
        let members = json!({"source": {"type": type_name}, "sink": {"type": "ParquetSink"}, "translator": {"type": "TabularTranslator",
            "mappings": [{"source": source, "sink": sink}], "typeConversion": true, "typeConversionSettings": {"allowDataTruncation": true,
            "treatBooleanAsNumber": false, "culture": "fr-fr", "dateTimeFormat": "dd/MM/yyyy", "timeSpanFormat": "hh\\:mm"}}});
        let job = copy_job(v2_copy(input, "Pq", members));
        let said = job.options.conversion;
        assert!(said.allow_truncation && !said.boolean_as_number);
        assert_eq!((said.culture.as_deref(), said.timestamp_format.as_deref()), (Some("fr-fr"), Some("dd/MM/yyyy")));
        assert_eq!(said.time_format.as_deref(), Some("HH\\:mm"));
        job.mapping.into_iter().next().expect("a line")
    };
    let decimal = Kind::Decimal { precision: 12, scale: 2 };
    for (source, sink, input, kind) in [
        (json!({"name": "a", "type": "String"}), json!({"name": "x", "type": "Int32"}), "Csv", Some(Kind::Int32)),
        (
            json!({"name": "a", "type": "DateTime", "format": "dd.MM.yyyy"}),
            json!({"name": "x", "type": "String"}),
            "Csv",
            Some(Kind::Timestamp),
        ),
        (json!({"name": "a", "type": "Int32"}), json!({"name": "x", "type": "Int64"}), "Orders", Some(Kind::Int64)),
        (
            json!({"name": "a"}),
            json!({"name": "x", "type": "Decimal", "precision": 12, "scale": 2}),
            "Orders",
            Some(decimal),
        ),
        (json!({"name": "a", "type": "Int32"}), json!({"name": "x", "type": "String"}), "Orders", Some(Kind::Text)),
        (json!({"name": "a", "type": "TimeSpan"}), json!({"name": "x"}), "Orders", Some(Kind::Time)),
        (json!({"name": "a"}), json!({"name": "x"}), "Orders", None),
    ] {
        let words = format!("{source} to {sink}");
        assert_eq!(line(source, sink, input).kind, kind, "{words}");
    }
    let dated = line(
        json!({"name": "a", "type": "DateTime", "format": "dd.MM.yyyy", "culture": "de-de"}),
        json!({"name": "x"}),
        "Csv",
    );
    assert_eq!((dated.format.as_deref(), dated.culture.as_deref()), (Some("dd.MM.yyyy"), Some("de-de")));
}

#[test]
fn what_cannot_run_says_why() {
    let pg = json!({"type": "PostgreSqlV2Source"});
    let parquet = json!({"type": "ParquetSink"});
    let text = json!({"type": "DelimitedTextSource"});
    let mut texts = Vec::new();
    for (input, output, source, sink) in [
        ("Missing", "Pq", pg.clone(), parquet.clone()),
        ("OraT", "Pq", json!({"type": "OracleSource"}), parquet.clone()),
        ("Orders", "Pq", json!({"type": "SqlServerSource"}), parquet.clone()),
        ("Nameless", "Pq", pg.clone(), parquet.clone()),
        ("Orders", "PqWrong", pg.clone(), parquet.clone()),
        ("Orders", "LiteT", pg.clone(), json!({"type": "SqliteSink", "writeBehavior": "merge"})),
        (
            "Orders",
            "Orders",
            pg.clone(),
            json!({"type": "AzurePostgreSqlSink", "writeMethod": "Upsert", "sliceIdentifierColumnName": "s"}),
        ),
        ("Orders", "Orders", pg.clone(), json!({"type": "PostgreSqlSink", "upsertSettings": {"keys": ["id"]}})),
        (
            "Orders",
            "Orders",
            pg.clone(),
            json!({"type": "PostgreSqlSink", "writeBehavior": "upsert", "upsertSettings": {"keys": "id"}}),
        ),
        ("Orders", "Orders", pg.clone(), json!({"type": "PostgreSqlSink", "writeBehavior": "storedProcedure"})),
        (
            "Orders",
            "Orders",
            pg.clone(),
            json!({"type": "PostgreSqlSink", "sqlWriterStoredProcedureName": "p", "tableOption": "autoCreate"}),
        ),
        ("Orders", "Orders", pg.clone(), json!({"type": "PostgreSqlSink", "storedProcedureParameters": {"a": 1}})),
        ("Orders", "Orders", pg.clone(), json!({"type": "PostgreSqlSink", "writeBatchTimeout": "soon"})),
        ("Orders", "Orders", pg.clone(), json!({"type": "PostgreSqlSink", "writeBatchSize": -1})),
        (
            "Orders",
            "Pq",
            json!({"type": "PostgreSqlSource", "additionalColumns": [{"name": "f", "value": "$$FILEPATH"}]}),
            parquet.clone(),
        ),
        (
            "Orders",
            "Pq",
            json!({"type": "PostgreSqlSource", "additionalColumns": [{"name": "f", "value": "$$LASTMODIFIED"}]}),
            parquet.clone(),
        ),
        (
            "Orders",
            "Pq",
            json!({"type": "PostgreSqlSource", "additionalColumns": [{"name": "f", "value": 1}, {"name": "f", "value": 2}]}),
            parquet.clone(),
        ),
        ("Orders", "Pq", json!({"type": "AzurePostgreSqlSource", "partitionOption": "DynamicRange"}), parquet.clone()),
        ("Zipped", "Pq", text.clone(), parquet.clone()),
        ("Json", "Pq", json!({"type": "JsonSource"}), parquet.clone()),
        ("CsvFolder", "PqFolder", text.clone(), parquet.clone()),
        (
            "Csv",
            "Pq",
            json!({"type": "DelimitedTextSource", "storeSettings": {"wildcardFileName": "*.csv"}}),
            parquet.clone(),
        ),
        ("Bytes", "Bytes", json!({"type": "BlobSource"}), json!({"type": "BlobSink"})),
        ("Orders", "Pq", json!({"type": "PostgreSqlV2Source", "query": "@variables('q')"}), parquet.clone()),
    ] {
        let activity = v2_copy(input, output, json!({"source": source, "sink": sink}));
        texts.push(activity.work.expect_err(input).to_string());
    }
    for (member, value) in [
        ("enableStaging", json!(true)),
        ("redirectIncompatibleRowSettings", json!({"linkedServiceName": "Disk", "path": "bad"})),
        ("skipErrorFile", json!({"fileMissing": true})),
        ("driftPolicy", json!("ignore")),
        ("translator", json!({"type": "TabularTranslator", "typeConversionSettings": {"culture": "de-de"}})),
        (
            "translator",
            json!({"type": "TabularTranslator", "typeConversion": true, "typeConversionSettings": {"kulture": "de-de"}}),
        ),
        (
            "translator",
            json!({"type": "TabularTranslator", "mappings": [{"source": {"name": "a", "type": "Object"}, "sink": {"name": "a"}}]}),
        ),
        (
            "translator",
            json!({"type": "TabularTranslator", "mappings": [{"source": {"name": "a", "format": "dd"}, "sink": {"name": "a"}}]}),
        ),
        ("verifyLevel", json!("most")),
        ("translator", json!({"type": "TabularTranslator", "collectionReference": "$.a"})),
    ] {
        let mut members = json!({"source": pg, "sink": parquet});
        members[member] = value;
        texts.push(v2_copy("Orders", "Pq", members).work.expect_err(member).to_string());
    }
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn parameters_policies_and_order() {
    let reference = |name: &str, parameters: Value| json!([{"referenceName": name, "type": "DatasetReference", "parameters": parameters}]);
    let properties = json!({
    "parameters": {"file": {"type": "String"}, "n": {"type": "Int", "defaultValue": 2}},
    "activities": [
        {"name": "First", "type": "Copy", "inputs": reference("Csv", json!({"f": {"value": "@concat(pipeline().parameters.file, '.csv')", "type": "Expression"}})),
         "outputs": reference("Pq", json!({})), "policy": {"timeout": "0.12:00:00", "retry": "@pipeline().parameters.n", "retryIntervalInSeconds": 60, "secureOutput": true},
         "userProperties": [{"name": "Source", "value": "@pipeline().DataFactory"}],
         "typeProperties": {"source": {"type": "DelimitedTextSource"}, "sink": {"type": "ParquetSink"}}},
        {"name": "Then", "type": "Wait", "dependsOn": [{"activity": "First", "dependencyConditions": ["Failed", "Skipped"]}], "typeProperties": {"waitTimeInSeconds": 1}},
        {"name": "Off", "type": "Copy", "state": "Inactive", "onInactiveMarkAs": "Failed", "typeProperties": {}},
    ]});
    let activities = bound(Dialect::V2, &v2_documents(), properties.clone(), json!({"file": "jan"})).expect("binds");
    let policy = &activities[0].policy;
    assert_eq!(
        (policy.retry, policy.retry_interval_seconds, policy.timeout_seconds, policy.secure_output),
        (2, 60, Some(43_200), true)
    );
    assert_eq!(activities[0].user_properties, [("Source".to_owned(), "Fab".to_owned())]);
    assert_eq!(activities[0].gateway, None, "neither side names a gateway");
    let job = copy_job(activities[0].clone());
    assert_eq!(
        job.source.object,
        StoreObject::Files { folder: "in/day".into(), file: Some("jan.csv".into()), recursive: false }
    );
    assert_eq!(activities[1].depends_on, [("First".to_owned(), vec![Condition::Failed, Condition::Skipped])]);
    assert_eq!(
        activities[1].work.as_ref().expect_err("not built").to_string(),
        "UserErrorNotSupported: The activity \"Then\" is of type Wait, which is stored and checked but cannot run yet. \
         Use Copy and SqlServerStoredProcedure activities meanwhile."
    );
    assert_eq!(activities[2].inactive, Some(Condition::Failed));

    let missing = bound(Dialect::V2, &v2_documents(), properties.clone(), json!({})).expect_err("no value");
    assert_eq!(missing.message, "The parameter \"file\" of pipeline \"P\" has no value and no default.");
    let unknown =
        bound(Dialect::V2, &v2_documents(), properties, json!({"file": "x", "nope": 1})).expect_err("unknown");
    assert_eq!(unknown.message, "The pipeline \"P\" has no parameter \"nope\".");
}

fn v1_documents() -> Documents {
    use Dialect::V1;
    Documents::default()
        .service(V1, "Pg", "OnPremisesPostgreSql", json!({"server": "db", "database": "d", "authenticationType": "Basic", "username": "u", "gatewayName": "gw", "encryptedCredential": "ENV"}))
        .service(V1, "Pg2", "OnPremisesPostgreSql", json!({"server": "db", "database": "d", "authenticationType": "Basic", "username": "u", "gatewayName": "other"}))
        .service(V1, "Disk", "OnPremisesFileServer", json!({"host": "/data", "gatewayName": "gw"}))
        .service(V1, "Blob", "AzureStorage", json!({"connectionString": "DefaultEndpointsProtocol=https;AccountName=acct;AccountKey=**********;EncryptedCredential=ENV2"}))
        .dataset(V1, "Rel", "Pg", json!({"type": "RelationalTable", "typeProperties": {"tableName": "states"}, "structure": [{"name": "id"}, {"name": "code"}]}))
        .dataset(V1, "Rel2", "Pg2", json!({"type": "RelationalTable", "typeProperties": {"tableName": "states"}}))
        .dataset(V1, "OutBlob", "Blob", json!({"type": "AzureBlob", "typeProperties": {"folderPath": "box/states/", "fileName": "s.txt",
            "format": {"type": "TextFormat", "rowDelimiter": "\n", "columnDelimiter": "\t"}}}))
        .dataset(V1, "Sliced", "Blob", json!({"type": "AzureBlob", "typeProperties": {"folderPath": "box/{Year}",
            "partitionedBy": [{"name": "Year", "value": {"type": "DateTime", "date": "SliceStart", "format": "yyyy"}}]}}))
        .dataset(V1, "Share", "Disk", json!({"type": "FileShare", "typeProperties": {"folderPath": "in\\sub", "format": {"type": "ParquetFormat"}}}))
}

fn v1_activity(name: &str, input: &str, output: &str, source: Value, sink: Value) -> Value {
    json!({"name": name, "type": "Copy", "inputs": [{"name": input}], "outputs": [{"name": output}], "typeProperties": {"source": source, "sink": sink}})
}

#[test]
fn version_1_walkthrough() {
    let properties = json!({"start": "2014-06-01T18:00:00Z", "end": "2014-06-01T19:00:00Z", "activities": [
        v1_activity("Later", "OutBlob", "Share", json!({"type": "BlobSource"}), json!({"type": "FileSystemSink"})),
        v1_activity("PostgreSqlToBlob", "Rel", "OutBlob", json!({"type": "RelationalSource", "query": "select * from \"public\".\"usstates\""}), json!({"type": "BlobSink"})),
        v1_activity("Table", "Rel", "OutBlob", json!({"type": "RelationalSource"}), json!({"type": "BlobSink"})),
        v1_activity("Folder", "Share", "Rel", json!({"type": "FileSystemSource"}), json!({"type": "PostgreSqlSink"})),
    ]});
    let mut activities = bound(Dialect::V1, &v1_documents(), properties, json!({})).expect("binds");
    assert_eq!(
        activities[0].depends_on[0],
        ("PostgreSqlToBlob".to_owned(), vec![Condition::Succeeded]),
        "chained by dataset"
    );
    assert_eq!(activities[1].policy.timeout_seconds, None);
    assert_eq!(activities[1].gateway.as_deref(), Some("gw"));
    let folder = copy_job(activities.remove(3));
    assert_eq!(folder.source.object, StoreObject::Files { folder: "in/sub".into(), file: None, recursive: false });
    let table = copy_job(activities.remove(2));
    assert_eq!(table.mapping.len(), 2, "only the columns of the structure");
    insta::assert_snapshot!(serde_json::to_string_pretty(&copy_job(activities.remove(1))).expect("serialises"));
}

#[test]
fn version_1_refusals() {
    let source = json!({"type": "RelationalSource"});
    let cases = [
        v1_activity(
            "Slice",
            "Rel",
            "OutBlob",
            json!({"type": "RelationalSource", "query": "$$Text.Format('{0}', SliceStart)"}),
            json!({"type": "BlobSink"}),
        ),
        v1_activity("Path", "Rel", "Sliced", source.clone(), json!({"type": "BlobSink"})),
        v1_activity("Two", "Rel", "Rel2", source, json!({"type": "PostgreSqlSink"})),
    ];
    let texts: Vec<String> = cases
        .into_iter()
        .map(|activity| {
            let bound =
                bound(Dialect::V1, &v1_documents(), json!({"activities": [activity]}), json!({})).expect("binds");
            bound[0].work.as_ref().expect_err("refused").to_string()
        })
        .collect();
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn stored_procedures() {
    let texts = |activity: &BoundActivity| match &activity.work {
        Ok(Job::Procedure(job)) => {
            let parameter = |p: &dmg_protocol::job::ProcedureParameter| {
                let type_name = p.type_name.as_deref().unwrap_or("-");
                format!("{}={}:{type_name}", p.name, p.value.as_deref().unwrap_or("NULL"))
            };
            let parameters: Vec<_> = job.call.parameters.iter().map(parameter).collect();
            format!("{} {} {}", job.store.store, job.call.name, parameters.join(" "))
        }
        Ok(other) => panic!("no call: {other:?}"),
        Err(fault) => fault.message.clone(),
    };
    let v2 = |service: &str, members: Value| {
        let activity = json!({"name": "A", "type": "SqlServerStoredProcedure", "policy": {"timeout": "0.00:01:00"},
            "linkedServiceName": {"referenceName": service, "type": "LinkedServiceReference"}, "typeProperties": members});
        bound(Dialect::V2, &v2_documents(), json!({"activities": [activity]}), json!({})).expect("binds").remove(0)
    };
    let parameters = json!({"a": {"value": "@add(1, 2)", "type": "int"}, "b": {"value": null}, "c": {"value": true, "type": "Boolean"}});
    let good = v2("Pg", json!({"storedProcedureName": "dbo.p", "storedProcedureParameters": parameters}));
    assert_eq!(texts(&good), "postgres dbo.p a=3:Int b=NULL:- c=true:Boolean");
    assert_eq!(good.gateway.as_deref(), Some("gw"));
    let Ok(Job::Procedure(job)) = &good.work else { panic!("bound above") };
    assert_eq!(job.call.timeout_seconds, Some(75), "the service's word comes first");
    for (members, expected) in [
        (json!({}), "The activity \"A\" does not name its stored procedure."),
        (
            json!({"storedProcedureName": "p", "storedProcedureParameters": {"a": {"value": 1, "type": "Money"}}}),
            "The parameter \"a\" has the type \"Money\", which is not known.",
        ),
        (
            json!({"storedProcedureName": "p", "storedProcedureParameters": {"a": {"value": [1]}}}),
            "The parameter \"a\" has a value that is neither text, number, boolean nor null.",
        ),
    ] {
        assert_eq!(texts(&v2("Pg", members)), expected);
    }
    assert_eq!(
        texts(&v2("None", json!({"storedProcedureName": "p"}))),
        "There is no linked service \"None\" in factory \"Fab\"."
    );

    let v1 = |outputs: Value| {
        let activity = json!({"name": "A", "type": "SqlServerStoredProcedure", "outputs": outputs,
            "typeProperties": {"storedProcedureName": "p", "storedProcedureParameters": {"a": "1", "b": null}}});
        bound(Dialect::V1, &v1_documents(), json!({"activities": [activity]}), json!({})).expect("binds").remove(0)
    };
    assert_eq!(texts(&v1(json!([{"name": "Rel2"}]))), "postgres p a=1:- b=NULL:-");
    assert_eq!(v1(json!([{"name": "Rel2"}])).gateway.as_deref(), Some("other"));
    let missing = "The activity \"A\" has no output dataset, which would name its database.";
    assert_eq!(texts(&v1(json!([]))), missing);
}

#[test]
fn time_spans() {
    for (text, seconds) in [
        ("01:00:00", Some(3_600)),
        ("0.12:00:00", Some(43_200)),
        ("7.00:00:00", Some(604_800)),
        ("24:00:00", Some(24 * 86_400)),
        ("00:00:01.5", Some(1)),
        ("00:00:00", Some(0)),
        ("1:2", None),
        ("soon", None),
        ("00:61:00", None),
        ("99999999999999999999:00:00", None),
        ("-1:00:00", None),
    ] {
        assert_eq!(time_span(text), seconds, "{text}");
    }
}
