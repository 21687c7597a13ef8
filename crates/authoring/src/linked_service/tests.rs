//! Linked services to store references: settings, bindings, refusals.

use serde_json::json;

use super::*;
use crate::with_envelope;

fn of(dialect: Dialect, type_name: &str, members: Value) -> Result<StoreRef, Fault> {
    let document = json!({"name": "L", "properties": {"type": type_name, "typeProperties": members}});
    store_ref(dialect, "L", "f-1", &document, &Map::new())
}

fn check(dialect: Dialect, type_name: &str, members: Value, store: &str, settings: Value) {
    let found = of(dialect, type_name, members.clone()).unwrap_or_else(|fault| panic!("{type_name}: {fault}"));
    assert_eq!(found.store, store);
    assert_eq!(Value::Object(found.settings.clone()), settings, "{members}");
    let document = json!({"properties": {"type": type_name, "typeProperties": members}});
    let sealed_to = seal_binding(dialect, "L", "f-1", &document).expect("binds");
    assert_eq!(sealed_to, found.binding, "sealer and opener agree");
    assert_eq!(binding("f-1", "L", store, &found.settings), found.binding, "the gateway finds the same");
}

#[test]
fn settings_of_every_served_type() {
    use Dialect::{V1, V2};
    check(
        V1,
        "OnPremisesPostgreSql",
        json!({"server": "db01", "database": "sales", "authenticationType": "Basic", "username": "u",
            "password": "**********", "gatewayName": "g"}),
        "postgres",
        json!({"host": "db01", "database": "sales", "user": "u"}),
    );
    check(
        V2,
        "PostgreSqlV2",
        json!({"server": "db01", "port": 5433, "database": "sales", "username": "u", "sslMode": 5,
            "authenticationType": "Basic", "connectionTimeout": 20, "commandTimeout": 0,
            "password": {"type": "SecureString", "value": "**********"}}),
        "postgres",
        json!({"host": "db01", "port": 5433, "database": "sales", "user": "u", "sslMode": "verify-full",
            "connectTimeoutSeconds": 20}),
    );
    check(
        V2,
        "PostgreSql",
        json!({"connectionString": "host=h;port=5432;database=d;uid=u;pwd=**********;EncryptionMethod=1;ValidateServerCertificate=0"}),
        "postgres",
        json!({"host": "h", "port": 5432, "database": "d", "user": "u", "sslMode": "require"}),
    );
    check(
        V2,
        "AzurePostgreSql",
        json!({"connectionString": {"type": "SecureString", "value": "Server=h;Database=d;User Id=u;SSL Mode=Require"}}),
        "postgres",
        json!({"host": "h", "database": "d", "user": "u", "sslMode": "require"}),
    );
    check(
        V1,
        "OnPremisesMySql",
        json!({"server": "db01", "database": "sales", "authenticationType": "Basic", "username": "u",
            "password": "**********", "gatewayName": "g"}),
        "mysql",
        json!({"host": "db01", "database": "sales", "user": "u"}),
    );
    check(
        V2,
        "MySql",
        json!({"server": "db01", "port": 3307, "database": "sales", "username": "u", "sslMode": 4,
            "allowZeroDateTime": true, "password": {"type": "SecureString", "value": "**********"}}),
        "mysql",
        json!({"host": "db01", "port": 3307, "database": "sales", "user": "u", "sslMode": "verify-full",
            "zeroDates": "text"}),
    );
    check(
        V2,
        "AzureMySql",
        json!({"connectionString": "Server=h;Port=3306;Database=d;UID=u;PWD=**********;SSLMode=Preferred"}),
        "mysql",
        json!({"host": "h", "port": 3306, "database": "d", "user": "u", "sslMode": "prefer"}),
    );
    check(
        V2,
        "MariaDB",
        json!({"server": "h", "database": "d", "username": "u", "sslMode": "VERIFY_CA"}),
        "mysql",
        json!({"host": "h", "database": "d", "user": "u", "sslMode": "verify-ca"}),
    );
    check(
        V1,
        "OnPremisesSqlServer",
        json!({"connectionString": "Data Source=db01\\sales,1500;Initial Catalog=d;Integrated Security=False;User ID=u;Password=**********",
            "gatewayName": "g"}),
        "sqlserver",
        json!({"host": "db01\\sales,1500", "database": "d", "user": "u", "encrypt": "optional"}),
    );
    check(
        V2,
        "SqlServer",
        json!({"server": "db01", "database": "d", "authenticationType": "SQL", "userName": "u", "encrypt": "Strict",
            "trustServerCertificate": true, "connectTimeout": 30, "password": {"type": "SecureString", "value": "**********"}}),
        "sqlserver",
        json!({"host": "db01", "database": "d", "user": "u", "trustServerCertificate": "true",
            "connectTimeoutSeconds": "30", "encrypt": "strict"}),
    );
    check(
        V2,
        "AzureSqlDatabase",
        json!({"connectionString": {"type": "SecureString", "value": "Server=tcp:s.database.windows.net,1433;Database=d;User ID=u;Encrypt=True"}}),
        "sqlserver",
        json!({"host": "tcp:s.database.windows.net,1433", "database": "d", "user": "u", "encrypt": "true"}),
    );
    check(V2, "Sqlite", json!({"path": "/data/a.db"}), "sqlite", json!({"path": "/data/a.db"}));
    check(V1, "Sqlite", json!({"connectionString": "Data Source=/data/a.db"}), "sqlite", json!({"path": "/data/a.db"}));
    check(V2, "FileServer", json!({"host": "/srv/in", "userId": ""}), "file", json!({"root": "/srv/in"}));
    check(V1, "OnPremisesFileServer", json!({"Host": "localhost", "gatewayName": "g"}), "file", json!({"root": "/"}));
    check(
        V2,
        "AzureBlobStorage",
        json!({"connectionString": "DefaultEndpointsProtocol=https;AccountName=acct;AccountKey=**********;EndpointSuffix=core.windows.net"}),
        "azblob",
        json!({"account": "acct"}),
    );
    check(
        V1,
        "AzureStorage",
        json!({"connectionString": "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=**********;BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;"}),
        "azblob",
        json!({"account": "devstoreaccount1", "endpoint": "http://127.0.0.1:10000/devstoreaccount1"}),
    );
    check(
        V2,
        "AzureBlobStorage",
        json!({"connectionString": "AccountName=acct;EndpointSuffix=core.chinacloudapi.cn"}),
        "azblob",
        json!({"account": "acct", "endpoint": "https://acct.blob.core.chinacloudapi.cn"}),
    );
    check(
        V1,
        "AzureStorageSas",
        json!({"sasUri": "https://acct.blob.core.windows.net/box?**********"}),
        "azblob",
        json!({"account": "acct", "container": "box"}),
    );
    check(
        V2,
        "AzureBlobStorage",
        json!({"sasUri": {"type": "SecureString", "value": "http://127.0.0.1:10000/devstoreaccount1?**********"}}),
        "azblob",
        json!({"account": "devstoreaccount1", "endpoint": "http://127.0.0.1:10000/devstoreaccount1"}),
    );
}

#[test]
fn parameters_are_evaluated() {
    let document = json!({"properties": {"type": "Sqlite",
        "parameters": {"name": {"type": "String", "defaultValue": "a"}, "n": {"type": "Int"}},
        "typeProperties": {"path": {"value": "@concat('/d/', linkedService().name, string(linkedService().n))", "type": "Expression"}}}});
    let given = json!({"N": "7"}).as_object().cloned().expect("object");
    let store = store_ref(Dialect::V2, "L", "f", &document, &given).expect("evaluates");
    assert_eq!(store.settings["path"], "/d/a7");
    let fault = store_ref(Dialect::V2, "L", "f", &document, &Map::new()).expect_err("no value");
    assert_eq!(fault.message, "The parameter \"n\" of linked service \"L\" has no value and no default.");
}

#[test]
fn a_secret_does_not_follow_a_parameter() {
    let document = json!({"properties": {"type": "PostgreSqlV2", "parameters": {"h": {"type": "String", "defaultValue": "x"},
        "u": {"type": "String", "defaultValue": "me"}},
        "typeProperties": {"server": "@linkedService().h", "database": "d", "username": "@linkedService().u"}}});
    assert!(store_ref(Dialect::V2, "L", "f", &document, &Map::new()).is_ok(), "nothing sealed, nothing to steal");
    let sealed = with_envelope(Dialect::V2, &document, "ENV");
    let fault = store_ref(Dialect::V2, "L", "f", &sealed, &Map::new()).expect_err("refused");
    assert_eq!(fault.code, "UserErrorNotSupported");
    let mut fixed = sealed;
    fixed["properties"]["typeProperties"]["server"] = json!("db");
    let store = store_ref(Dialect::V2, "L", "f", &fixed, &Map::new()).expect("only the user is a parameter");
    assert_eq!((store.envelope.as_deref(), &store.settings["user"]), (Some("ENV"), &json!("me")));
}

#[test]
fn a_token_given_with_the_linked_service_logs_in() {
    check(
        Dialect::V2,
        "AzureSqlDatabase",
        json!({"server": "s.database.windows.net", "database": "d", "authenticationType": "AccessToken",
            "accessToken": {"type": "SecureString", "value": "**********"}, "redirectHosts": "*.corp.lan"}),
        "sqlserver",
        json!({"host": "s.database.windows.net", "database": "d", "authenticationType": "AccessToken",
            "redirectHosts": "*.corp.lan", "encrypt": "mandatory"}),
    );
}

#[test]
fn an_account_of_windows_logs_in_by_either_dialect() {
    let expected = |encrypt: &str| json!({"host": "db01", "database": "d", "user": "CORP\\u", "encrypt": encrypt, "authenticationType": "Windows"});
    check(
        Dialect::V1,
        "OnPremisesSqlServer",
        json!({"connectionString": "Data Source=db01;Initial Catalog=d;Integrated Security=True;", "gatewayName": "g",
            "username": "CORP\\u", "password": "**********"}),
        "sqlserver",
        expected("optional"),
    );
    check(
        Dialect::V2,
        "SqlServer",
        json!({"connectionString": "Data Source=db01;Initial Catalog=d;Integrated Security=SSPI", "userName": "CORP\\u",
            "password": {"type": "SecureString", "value": "**********"}}),
        "sqlserver",
        expected("optional"),
    );
    check(
        Dialect::V2,
        "SqlServer",
        json!({"server": "db01", "database": "d", "authenticationType": "Windows", "userName": "CORP\\u",
            "password": {"type": "SecureString", "value": "**********"}}),
        "sqlserver",
        expected("mandatory"),
    );
}

#[test]
fn refusals_read_well() {
    let texts: Vec<String> = [
        (Dialect::V1, "OnPremisesSqlServer", json!({"connectionString": "Data Source=s", "gatewayName": "g"})),
        (
            Dialect::V1,
            "OnPremisesSqlServer",
            json!({"connectionString": "Data Source=s;Initial Catalog=d;Integrated Security=True"}),
        ),
        (
            Dialect::V2,
            "AzureSqlDatabase",
            json!({"server": "s", "database": "d", "authenticationType": "ServicePrincipal", "tenant": "t"}),
        ),
        (Dialect::V2, "PostgreSqlV2", json!({"server": "s", "username": "u"})),
        (Dialect::V2, "PostgreSqlV2", json!({"server": "s", "database": "d", "port": "x"})),
        (Dialect::V2, "PostgreSqlV2", json!({"server": "s", "database": "d", "sslMode": 9})),
        (
            Dialect::V2,
            "AzurePostgreSql",
            json!({"server": "s", "database": "d", "authenticationType": "ServicePrincipal"}),
        ),
        (Dialect::V2, "FileServer", json!({"host": "\\\\srv\\share", "userId": "u"})),
        (Dialect::V2, "FileServer", json!({"host": "/srv/in", "userId": "u"})),
        (Dialect::V2, "AzureBlobStorage", json!({"connectionString": "UseDevelopmentStorage=true"})),
        (Dialect::V2, "AzureBlobStorage", json!({"serviceEndpoint": "https://a.blob.core.windows.net", "tenant": "t"})),
        (
            Dialect::V2,
            "PostgreSqlV2",
            json!({"server": "s", "database": "d", "password": {"type": "AzureKeyVaultSecret"}}),
        ),
    ]
    .into_iter()
    .map(|(dialect, name, members)| of(dialect, name, members).expect_err(name).to_string())
    .collect();
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn gateways() {
    let v1 = json!({"properties": {"typeProperties": {"gatewayname": "g"}}});
    assert_eq!(gateway_of(Dialect::V1, &v1).as_deref(), Some("g"));
    let v2 = json!({"properties": {"connectVia": {"referenceName": "ir", "type": "IntegrationRuntimeReference"}}});
    assert_eq!(gateway_of(Dialect::V2, &v2).as_deref(), Some("ir"));
    let cloud = json!({"properties": {"connectVia": {"referenceName": "AutoResolveIntegrationRuntime"}}});
    assert_eq!(gateway_of(Dialect::V2, &cloud), None);
}
