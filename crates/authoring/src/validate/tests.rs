//! Findings of documents: the original's own samples have none that matter, broken ones are named place by place.

use serde_json::json;

use super::*;
use crate::{Severity, detect, findings_fault};

fn findings(dialect: Dialect, kind: DocumentKind, name: &str, document: &Value) -> String {
    let lines: Vec<String> = validate(dialect, kind, name, document)
        .iter()
        .map(|finding| format!("{:?} {finding}", finding.severity))
        .collect();
    lines.join("\n")
}

fn errors(dialect: Dialect, kind: DocumentKind, document: &Value) -> Vec<String> {
    let found = validate(dialect, kind, "Name", document);
    found.iter().filter(|finding| finding.severity == Severity::Error).map(Finding::to_string).collect()
}

/// Samples in the words of the original's articles and contract.
fn samples() -> Vec<(Dialect, DocumentKind, Value)> {
    use Dialect::{V1, V2};
    use DocumentKind::{Dataset, LinkedService, Pipeline};
    vec![
        (
            V1,
            LinkedService,
            json!({"name": "SqlServerLinkedService", "properties": {"type": "OnPremisesSqlServer",
            "description": "", "typeProperties": {"connectionString": "data source=myserver;initial catalog=mydatabase;Integrated Security=False;EncryptedCredential=eyJDb25uZWN0aW9uU3R",
            "gatewayName": "mygateway", "userName": "", "password": ""}}}),
        ),
        (
            V1,
            LinkedService,
            json!({"name": "OnPremPostgreSqlLinkedService", "properties": {"type": "OnPremisesPostgreSql",
            "typeProperties": {"server": "s", "database": "d", "schema": "public", "authenticationType": "Basic",
            "username": "u", "password": "p", "gatewayName": "g"}}}),
        ),
        (
            V1,
            LinkedService,
            json!({"name": "AzureStorageLinkedService", "properties": {"type": "AzureStorage",
            "typeProperties": {"connectionString": "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=k"}}}),
        ),
        (
            V1,
            Dataset,
            json!({"name": "PostgreSqlDataSet", "properties": {"type": "RelationalTable",
            "linkedServiceName": "OnPremPostgreSqlLinkedService", "typeProperties": {}, "external": true,
            "availability": {"frequency": "Hour", "interval": 1},
            "policy": {"externalData": {"retryInterval": "00:01:00", "retryTimeout": "00:10:00", "maximumRetry": 3}}}}),
        ),
        (
            V1,
            Dataset,
            json!({"name": "AzureBlobPostgreSqlDataSet", "properties": {"type": "AzureBlob",
            "linkedServiceName": "AzureStorageLinkedService", "typeProperties": {"folderPath": "mycontainer/postgresql/",
            "format": {"type": "TextFormat", "rowDelimiter": "\n", "columnDelimiter": "\t"}},
            "availability": {"frequency": "Hour", "interval": 1}}}),
        ),
        (
            V1,
            Pipeline,
            json!({"name": "CopyPostgreSqlToBlob", "properties": {"description": "pipeline for copy activity",
            "activities": [{"type": "Copy", "typeProperties": {"source": {"type": "RelationalSource", "query": "select * from \"public\".\"usstates\""},
            "sink": {"type": "BlobSink"}}, "inputs": [{"name": "PostgreSqlDataSet"}], "outputs": [{"name": "AzureBlobPostgreSqlDataSet"}],
            "policy": {"timeout": "01:00:00", "concurrency": 1}, "scheduler": {"frequency": "Hour", "interval": 1}, "name": "PostgreSqlToBlob"}],
            "start": "2014-06-01T18:00:00Z", "end": "2014-06-01T19:00:00Z"}}),
        ),
        (
            V2,
            LinkedService,
            json!({"properties": {"type": "AzureStorage", "typeProperties": {"connectionString":
            {"type": "SecureString", "value": "DefaultEndpointsProtocol=https;AccountName=e;AccountKey=<storage key>"}}}}),
        ),
        (
            V2,
            Dataset,
            json!({"properties": {"type": "AzureBlob", "typeProperties": {
            "folderPath": {"value": "@dataset().MyFolderPath", "type": "Expression"},
            "fileName": {"value": "@dataset().MyFileName", "type": "Expression"}, "format": {"type": "TextFormat"}},
            "linkedServiceName": {"referenceName": "exampleLinkedService", "type": "LinkedServiceReference"},
            "parameters": {"MyFolderPath": {"type": "String"}, "MyFileName": {"type": "String"}}}}),
        ),
        (
            V2,
            Pipeline,
            json!({"properties": {"activities": [{"type": "ForEach", "typeProperties": {"isSequential": true,
            "items": {"value": "@pipeline().parameters.OutputBlobNameList", "type": "Expression"},
            "activities": [{"type": "Copy", "typeProperties": {"source": {"type": "BlobSource"}, "sink": {"type": "BlobSink"},
            "dataIntegrationUnits": 32}, "inputs": [{"referenceName": "exampleDataset", "type": "DatasetReference",
            "parameters": {"MyFolderPath": "examplecontainer", "MyFileName": "examplecontainer.csv"}}],
            "outputs": [{"referenceName": "exampleDataset", "type": "DatasetReference", "parameters": {"MyFolderPath": "examplecontainer",
            "MyFileName": {"value": "@item()", "type": "Expression"}}}], "name": "ExampleCopyActivity"}]}, "name": "ExampleForeachActivity"}],
            "parameters": {"OutputBlobNameList": {"type": "Array"}, "JobId": {"type": "String"}},
            "variables": {"TestVariableArray": {"type": "Array"}}, "runDimensions": {"JobId": {"value": "@pipeline().parameters.JobId", "type": "Expression"}},
            "policy": {"elapsedTimeMetric": {"duration": "0.00:10:00"}}}}),
        ),
    ]
}

#[test]
fn the_originals_samples_are_detected_and_taken() {
    for (dialect, kind, document) in samples() {
        assert_eq!(detect(&document), Some((dialect, kind)), "{document}");
        assert_eq!(errors(dialect, kind, &document), Vec::<String>::new(), "{document}");
    }
}

#[test]
fn what_is_no_document_is_not_detected() {
    for document in [json!(1), json!({}), json!({"properties": {"type": "Unheard"}}), json!({"properties": []})] {
        assert_eq!(detect(&document), None, "{document}");
    }
}

#[test]
fn broken_linked_services() {
    use DocumentKind::LinkedService;
    let texts: Vec<String> = [
        (Dialect::V2, "a/b", json!([])),
        (Dialect::V2, "L", json!({"name": "Other"})),
        (Dialect::V2, "L", json!({"properties": {"typeProperties": {}}})),
        (Dialect::V2, "L", json!({"properties": {"type": "Nonsense", "typeProperties": {}}})),
        (Dialect::V1, "L", json!({"properties": {"type": "SqlServer", "typeProperties": {}}})),
        (Dialect::V2, "L", json!({"properties": {"type": "PostgreSqlV2"}})),
        (Dialect::V2, "L", json!({"properties": {"type": "PostgreSqlV2", "typeProperties": {"server": "s", "port": "x", "database": "d", "username": "u"}}})),
        (Dialect::V2, "L", json!({"properties": {"type": "AzureBlobStorage", "typeProperties": {"accountKind": "StorageV2"}}})),
        (Dialect::V2, "L", json!({"properties": {"type": "SqlServer", "connectVia": "IR", "typeProperties": {}}})),
        (Dialect::V1, "L", json!({"properties": {"type": "OnPremisesSqlServer", "typeProperties": {"connectionString": "Data Source=s"}}})),
        (Dialect::V2, "L", json!({"properties": {"type": "FileServer", "typeProperties": {"host": "\\\\s\\share"}}})),
        (Dialect::V2, "L", json!({"properties": {"type": "Sqlite", "typeProperties": {"path": "/a"},
            "parameters": {"p": {"type": "SecureString", "defaultValue": "x"}, "q": {"type": "Text"}}}})),
    ]
    .into_iter()
    .map(|(dialect, name, document)| findings(dialect, LinkedService, name, &document))
    .collect();
    insta::assert_snapshot!(texts.join("\n---\n"));
}

/// Nothing that could be a secret may stand where it is not looked for.
#[test]
fn secrets_have_one_place() {
    let good = json!({"path": "/a"});
    for (properties, expected) in [
        (
            json!({"typeProperties": good, "TypeProperties": {"password": "x"}}),
            "$.properties.TypeProperties: The member \"TypeProperties\" is there twice, in different spelling.",
        ),
        (
            json!({"typeProperties": good, "Password": "x"}),
            "$.properties.Password: The member \"Password\" belongs into \"typeProperties\".",
        ),
        (
            json!({"typeProperties": good, "annotations": [{"type": "SecureString", "value": "x"}]}),
            "$.properties.annotations[0]: A secret belongs into \"typeProperties\".",
        ),
    ] {
        let mut properties = properties;
        properties["type"] = json!("Sqlite");
        assert_eq!(errors(Dialect::V2, DocumentKind::LinkedService, &json!({"properties": properties})), [expected]);
    }
    let outside = json!({"password": "x", "properties": {"type": "Sqlite", "typeProperties": good}});
    assert_eq!(
        errors(Dialect::V2, DocumentKind::LinkedService, &outside),
        ["$.password: The member \"password\" belongs into \"typeProperties\"."]
    );
    let twice = json!({"properties": {"type": "Sqlite", "typeProperties": good}, "Properties": {"typeProperties": {"password": "x"}}});
    assert_eq!(errors(Dialect::V2, DocumentKind::LinkedService, &twice).len(), 1);
}

#[test]
fn broken_datasets() {
    let texts: Vec<String> = [
        (Dialect::V1, json!({"properties": {"type": "RelationalTable"}})),
        (Dialect::V1, json!({"properties": {"type": "AzureBlob", "linkedServiceName": {"referenceName": "L"}, "typeProperties": {"format": {"type": "Csv"}},
            "availability": {"frequency": "Minute", "interval": 5}}})),
        (Dialect::V2, json!({"properties": {"type": "Parquet", "linkedServiceName": "L", "typeProperties": {}}})),
        (Dialect::V2, json!({"properties": {"type": "DelimitedText", "linkedServiceName": {"referenceName": "L", "type": "LinkedServiceReference"},
            "typeProperties": {"location": {"type": "Blob"}}, "structure": [{"type": "String"}], "schema": {}}})),
        (Dialect::V2, json!({"properties": {"type": "Table", "linkedServiceName": {"type": "LinkedServiceReference"}, "typeProperties": 1}})),
    ]
    .into_iter()
    .map(|(dialect, document)| findings(dialect, DocumentKind::Dataset, "D", &document))
    .collect();
    insta::assert_snapshot!(texts.join("\n---\n"));
}

#[test]
fn broken_pipelines() {
    let copy = |more: Value| {
        let mut activity = json!({"name": "A", "type": "Copy", "inputs": [{"referenceName": "I", "type": "DatasetReference"}],
            "outputs": [{"referenceName": "O", "type": "DatasetReference"}],
            "typeProperties": {"source": {"type": "ParquetSource"}, "sink": {"type": "ParquetSink"}}});
        for (name, value) in more.as_object().expect("object") {
            activity[name] = value.clone();
        }
        activity
    };
    let texts: Vec<String> = [
        json!({}),
        json!({"activities": {}}),
        json!({"activities": [copy(json!({})), copy(json!({"name": "a", "type": "Copi"})), 3]}),
        json!({"activities": [copy(json!({"inputs": [], "outputs": [{"name": "x"}], "typeProperties": {"source": {}, "sink": {"type": "SqlSinc"}, "parallelCopies": 0}}))]}),
        json!({"activities": [copy(json!({"policy": {"retry": -1, "retryIntervalInSeconds": 5, "timeout": "soon"}}))]}),
        json!({"activities": [copy(json!({"dependsOn": [{"activity": "B", "dependencyConditions": ["Done"]}]})),
            copy(json!({"name": "B", "dependsOn": [{"activity": "A"}]})), copy(json!({"name": "C", "dependsOn": [{"activity": "Z"}]}))]}),
        json!({"activities": [{"name": "P", "type": "SqlServerStoredProcedure", "typeProperties": {"storedProcedureName": "p"}},
            {"name": "Q", "type": "SqlServerStoredProcedure", "linkedServiceName": {"referenceName": "L"}, "typeProperties": {"storedProcedureName": "p"}}]}),
        json!({"activities": [{"name": "W", "type": "WebActivity", "typeProperties": {"url": "u", "method": "GET",
            "authentication": {"password": {"type": "SecureString", "value": "x"}}}}]}),
    ]
    .into_iter()
    .map(|properties| findings(Dialect::V2, DocumentKind::Pipeline, "P", &json!({"properties": properties})))
    .collect();
    insta::assert_snapshot!(texts.join("\n---\n"));
}

#[test]
fn findings_become_one_fault() {
    let document = json!({"properties": {"type": "PostgreSqlV2", "typeProperties": {"server": "s"}}});
    let found = validate(Dialect::V2, DocumentKind::LinkedService, "L", &document);
    let fault = findings_fault(DocumentKind::LinkedService, "L", &found).expect("errors");
    assert_eq!(
        fault.message,
        "The linked service \"L\" is refused. $.properties.typeProperties.database: The member \"database\" is missing. \
         $.properties.typeProperties.username: The member \"username\" is missing."
    );
    let name = validate(
        Dialect::V2,
        DocumentKind::LinkedService,
        "a:b",
        &json!({"properties": {"type": "Sqlite", "typeProperties": {"path": "x"}}}),
    );
    assert_eq!(findings_fault(DocumentKind::LinkedService, "a:b", &name).expect("an error").code, "UserErrorName");
    assert_eq!(findings_fault(DocumentKind::LinkedService, "L", &[]), None);
}

#[test]
fn secrets_that_cannot_be_sealed_are_refused_and_not_repeated() {
    let secret = |value: Value| json!({"server": "s", "database": "d", "username": "u", "password": value});
    let port = json!({"type": "SecureString", "value": "hunter2"});
    for (members, path) in [
        (secret(json!(4711)), "password"),
        (secret(json!({"type": "SecureString", "value": {"inside": "hunter2"}})), "password"),
        (secret(json!({"type": "SecureString", "value": ["hunter2"]})), "password"),
        (secret(json!({"value": "hunter2"})), "password"),
        (secret(json!({"type": "Expression", "value": "hunter2"})), "password"),
        (secret(json!([{"value": "hunter2"}])), "password[0]"),
        (secret(json!({"type": "AzureKeyVaultSecret", "secretName": "n", "value": "hunter2"})), "password.value"),
        (json!({"server": "s", "database": "d", "username": "u", "port": port}), ""),
    ] {
        let document = json!({"properties": {"type": "PostgreSqlV2", "typeProperties": members}});
        let findings = validate(Dialect::V2, DocumentKind::LinkedService, "L", &document);
        let said = findings_fault(DocumentKind::LinkedService, "L", &findings).map(|fault| fault.to_string());
        if path.is_empty() {
            assert_eq!(said, None, "a SecureString is sealed, whatever its member");
            continue;
        }
        let said = said.unwrap_or_else(|| panic!("{document} was accepted"));
        assert!(said.contains(&format!("$.properties.typeProperties.{path}:")), "{said}");
        assert!(!said.contains("hunter2") && !said.contains("4711"), "{said}");
    }
}

#[test]
fn contradictions_of_a_copy_are_found_before_it_runs() {
    let reference = |name: &str| json!([{"referenceName": name, "type": "DatasetReference"}]);
    let document = |sink: Value, translator: Value| {
        json!({"properties": {"activities": [{"name": "A", "type": "Copy", "inputs": reference("I"), "outputs": reference("O"),
            "typeProperties": {"source": {"type": "PostgreSqlV2Source"}, "sink": sink, "translator": translator}}]}})
    };
    let check =
        |sink: Value, translator: Value| errors(Dialect::V2, DocumentKind::Pipeline, &document(sink, translator));
    let place = "$.properties.activities[0].typeProperties";
    let sink = json!({"type": "SqlServerSink", "writeBehavior": "StoredProcedure"});
    let expected = format!("{place}.sink: The sink writes by stored procedure, but does not name it.");
    assert_eq!(check(sink, Value::Null), [expected]);
    let late = json!({"type": "SqlServerSink", "writeBehavior": "@pipeline().parameters.how"});
    assert_eq!(check(late, Value::Null), [""; 0]);
    let translator = json!({"type": "TabularTranslator", "columnMappings": "a"});
    let expected = format!("{place}.translator: The column mapping \"a\" is not of the form \"source: sink\".");
    assert_eq!(check(json!({"type": "SqlServerSink"}), translator), [expected]);
}
