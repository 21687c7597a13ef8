//! The public API: status and body of every route, who may call it, and what happens to secrets on their way in.

mod support;

use dmg_seal::envelope_binding;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{GROUP, OURS, V1, V2, World, shown};

const PASSWORD: &str = "pa55-w0rd-planted";

fn f(path: &str) -> String {
    format!("{GROUP}/factories/sales{path}")
}

fn f1(path: &str) -> String {
    format!("/subscriptions/SUB1/resourcegroups/RG1/providers/microsoft.datafactory/datafactories/Sales{path}")
}

fn postgres(host: &str, password: Value) -> Value {
    json!({"properties": {"type": "PostgreSqlV2", "typeProperties": {
        "server": host, "port": 5432, "database": "shop", "username": "reader", "sslMode": 0,
        "authenticationType": "Basic", "password": password, "unknownMember": {"stays": true}}}})
}

fn secret(text: &str) -> Value {
    json!({"type": "SecureString", "value": text})
}

fn file_server() -> Value {
    json!({"properties": {"type": "FileServer", "typeProperties": {"host": "/srv/out"},
        "connectVia": {"type": "IntegrationRuntimeReference", "referenceName": "gw1"}}})
}

fn table() -> Value {
    json!({"properties": {"type": "PostgreSqlV2Table", "typeProperties": {"schema": "public", "table": "t"},
        "linkedServiceName": {"referenceName": "pg", "type": "LinkedServiceReference"}}})
}

fn parquet() -> Value {
    json!({"properties": {"type": "Parquet",
        "linkedServiceName": {"referenceName": "files", "type": "LinkedServiceReference"},
        "typeProperties": {"location": {"type": "FileServerLocation", "fileName": "t.parquet"}, "compressionCodec": "snappy"}}})
}

fn pipeline() -> Value {
    json!({"properties": {"activities": [{"name": "copy", "type": "Copy",
        "inputs": [{"referenceName": "in", "type": "DatasetReference"}],
        "outputs": [{"referenceName": "out", "type": "DatasetReference"}],
        "typeProperties": {"source": {"type": "PostgreSqlV2Source"}, "sink": {"type": "ParquetSink"}}}]}})
}

macro_rules! snapshot {
    ($name:literal, $answer:expr) => {
        insta::assert_snapshot!($name, shown(&$answer));
    };
}

#[tokio::test]
async fn factories() {
    let world = World::start().await;
    let put = |body: Value| {
        let world = &world;
        async move { world.send(Method::PUT, &f(""), V2, Some(&body)).await }
    };
    snapshot!("factory_put_without_location", put(json!({})).await);
    snapshot!("factory_put", put(json!({"location": "East US", "tags": {"a": "b"}})).await);
    snapshot!("factory_get", world.send(Method::GET, &f(""), V2, None).await);
    snapshot!("factory_list", world.send(Method::GET, &format!("{GROUP}/factories"), V2, None).await);
    snapshot!(
        "factory_list_subscription",
        world.send(Method::GET, "/subscriptions/sub1/providers/Microsoft.DataFactory/factories", V2, None).await
    );
    snapshot!("factory_patch", world.send(Method::PATCH, &f(""), V2, Some(&json!({"tags": {"c": "d"}}))).await);
    snapshot!("factory_v1_get", world.send(Method::GET, &f1(""), V1, None).await);
    let elsewhere = "/subscriptions/sub1/resourceGroups/other/providers/Microsoft.DataFactory/factories/SALES";
    snapshot!("factory_name_taken", world.send(Method::PUT, elsewhere, V2, Some(&json!({"location": "x"}))).await);
    snapshot!("factory_not_found", world.send(Method::GET, elsewhere, V2, None).await);
    let bad = format!("{GROUP}/factories/a--b");
    snapshot!("factory_bad_name", world.send(Method::PUT, &bad, V2, Some(&json!({"location": "x"}))).await);
    let stale = [("if-match", "\"00000000-0000-0000-0000-0000000000ff\"")];
    snapshot!(
        "factory_precondition",
        world.send_with(Method::PUT, &f(""), V2, Some(&json!({"location": "x"})), &stale).await
    );
    let now = world.send(Method::GET, &f(""), V2, None).await;
    let etag = now.headers["etag"].to_str().unwrap().to_owned();
    let again = world.send_with(Method::GET, &f(""), V2, None, &[("if-none-match", &etag)]).await;
    assert_eq!(again.status, StatusCode::NOT_MODIFIED);
    let v1 = f1("").replace("Sales", "walkthrough");
    snapshot!(
        "factory_v1_put",
        world.send(Method::PUT, &v1, V1, Some(&json!({"name": "walkthrough", "location": "WestUS"}))).await
    );
    assert_eq!(world.send(Method::DELETE, &f(""), V2, None).await.status, StatusCode::OK);
    assert_eq!(world.send(Method::DELETE, &f(""), V2, None).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn versions_paths_and_bodies() {
    let world = World::start().await;
    let raw = |url: String, token: bool| {
        let request = world.client.get(world.url(&url));
        let request = if token { request.bearer_auth(&world.token) } else { request };
        async move {
            let response = request.send().await.unwrap();
            let (status, headers) = (response.status(), response.headers().clone());
            let body = response.json().await.unwrap();
            support::Answer { status, headers, body }
        }
    };
    snapshot!("no_version", raw(f(""), true).await);
    snapshot!("unknown_version", raw(f("?api-version=2020-02-02"), true).await);
    let refused = raw(f("?api-version=2018-06-01"), false).await;
    assert_eq!(refused.headers["www-authenticate"], "Bearer error=\"invalid_token\"");
    assert!(refused.headers.contains_key("x-ms-request-id"));
    snapshot!("no_token", refused);
    snapshot!("unknown_path", world.send(Method::GET, "/nowhere", V2, None).await);
    snapshot!("not_built", world.send(Method::GET, &f("/triggers"), V2, None).await);
    let wrong = world.send(Method::POST, &f(""), V2, None).await;
    assert_eq!(wrong.headers["allow"], "PUT, PATCH, GET, DELETE");
    snapshot!("wrong_method", wrong);
    let url = world.url(&f("?api-version=2018-06-01"));
    let broken = world.client.put(url).bearer_auth(&world.token).body("{\"location\": pa55").send().await.unwrap();
    let (status, headers) = (broken.status(), broken.headers().clone());
    snapshot!("broken_json", support::Answer { status, headers, body: broken.json().await.unwrap() });
    let large = world.client.put(world.url(&f("?api-version=2018-06-01"))).bearer_auth(&world.token);
    let large = large.body(vec![b' '; 5 * 1024 * 1024]).send().await;
    // The service may cut the connection while the rest is still being sent.
    assert!(large.map_or(true, |answer| answer.status() == StatusCode::PAYLOAD_TOO_LARGE));
}

/// Every route refuses who has no token, or a wrong one, whatever the path holds.
#[tokio::test]
async fn permissions() {
    let world = World::start().await;
    let operations = world.good(Method::GET, "/providers/Microsoft.DataFactory/operations", V2, None).await;
    let operations = operations["value"].as_array().unwrap();
    assert!(operations.len() > 50);
    for operation in operations {
        let text = operation["display"]["operation"].as_str().unwrap();
        let (method, path) = text.split_once(' ').unwrap();
        let path = path.replacen('~', &f(""), 1).replacen("F1", &f1(""), 1).replacen("G/", &format!("{GROUP}/"), 1);
        let path = path.replacen("S/", "/subscriptions/s/providers/Microsoft.DataFactory/", 1);
        let path = format!("/{}", path.trim_start_matches('/'));
        for version in [V1, V2, OURS] {
            let url = world.url(&format!("{path}?api-version={version}"));
            let method: Method = method.parse().unwrap();
            let none = world.client.request(method.clone(), &url).send().await.unwrap();
            assert_eq!(none.status(), StatusCode::UNAUTHORIZED, "{text}");
            let wrong = world.client.request(method, &url).bearer_auth("x".repeat(43)).send().await.unwrap();
            assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED, "{text}");
        }
    }
    for path in ["/dmg/status", "/dmg/node/v1/poll", "/dmg/node/v1/jobs/take", "/dmg/node/v1/jobs/finish"] {
        let answer = world.client.post(world.url(path)).body("{}").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn integration_runtimes_and_gateways() {
    let world = World::start().await;
    world.good(Method::PUT, &f(""), V2, Some(json!({"location": "here"}))).await;
    let ir = f("/integrationRuntimes/gw1");
    snapshot!("ir_put_without_type", world.send(Method::PUT, &ir, V2, Some(&json!({"properties": {}}))).await);
    snapshot!(
        "ir_put_managed",
        world.send(Method::PUT, &ir, V2, Some(&json!({"properties": {"type": "Managed"}}))).await
    );
    let body = json!({"properties": {"type": "SelfHosted", "description": "A selfhosted integration runtime"}});
    snapshot!("ir_put", world.send_with(Method::PUT, &ir, V2, Some(&body), &[("If-Match", "*")]).await);
    snapshot!("ir_get", world.send(Method::GET, &ir.to_uppercase().replace("API", "api"), V2, None).await);
    snapshot!("ir_list", world.send(Method::GET, &f("/integrationruntimes"), V2, None).await);
    snapshot!("ir_status_unregistered", world.send(Method::POST, &format!("{ir}/getStatus"), V2, None).await);
    snapshot!(
        "ir_connection_unregistered",
        world.send(Method::POST, &format!("{ir}/getConnectionInfo"), V2, None).await
    );
    snapshot!("ir_keys", world.send(Method::POST, &format!("{ir}/listAuthKeys"), V2, None).await);
    let body = json!({"keyName": "authKey2"});
    snapshot!("ir_regenerate", world.send(Method::POST, &format!("{ir}/regenerateAuthKey"), V2, Some(&body)).await);
    snapshot!(
        "ir_regenerate_wrong",
        world.send(Method::POST, &format!("{ir}/regenerateAuthKey"), V2, Some(&json!({}))).await
    );
    let node = world.node("gw1", "node1").await;
    assert!(node.holds);
    snapshot!("ir_status", world.send(Method::POST, &format!("{ir}/getStatus"), V2, None).await);
    snapshot!("ir_connection", world.send(Method::POST, &format!("{ir}/getConnectionInfo"), V2, None).await);
    snapshot!("ir_monitoring", world.send(Method::POST, &format!("{ir}/monitoringData"), V2, None).await);
    snapshot!("ir_patch", world.send(Method::PATCH, &ir, V2, Some(&json!({"autoUpdate": "Off"}))).await);
    snapshot!("ir_patch_update", world.send(Method::PATCH, &ir, V2, Some(&json!({"autoUpdate": "On"}))).await);
    snapshot!("node_get", world.send(Method::GET, &format!("{ir}/nodes/NODE1"), V2, None).await);
    let body = json!({"concurrentJobsLimit": 7});
    snapshot!("node_patch", world.send(Method::PATCH, &format!("{ir}/nodes/node1"), V2, Some(&body)).await);
    let body = json!({"concurrentJobsLimit": 0});
    snapshot!("node_patch_wrong", world.send(Method::PATCH, &format!("{ir}/nodes/node1"), V2, Some(&body)).await);
    snapshot!("node_missing", world.send(Method::GET, &format!("{ir}/nodes/nobody"), V2, None).await);
    snapshot!("node_address", world.send(Method::POST, &format!("{ir}/nodes/node1/ipAddress"), V2, None).await);
    // The same gateway in version 1.
    let gateway = f1("/gateways/gw1");
    snapshot!("gateway_get", world.send(Method::GET, &gateway, V1, None).await);
    let body = json!({"name": "MyGateway", "properties": {"description": "gateway for walkthrough"}});
    snapshot!("gateway_put", world.send(Method::PUT, &f1("/gateways/MyGateway"), V1, Some(&body)).await);
    let body = json!({"name": "gw1", "properties": {"description": "changed"}});
    snapshot!("gateway_patch", world.send(Method::PATCH, &gateway, V1, Some(&body)).await);
    snapshot!("gateway_list", world.send(Method::GET, &f1("/gateways"), V1, None).await);
    snapshot!("gateway_keys", world.send(Method::POST, &format!("{gateway}/listauthkeys"), V1, None).await);
    let body = json!({"keyname": "key1"});
    snapshot!(
        "gateway_regenerate_auth",
        world.send(Method::POST, &format!("{gateway}/regenerateauthkey"), V1, Some(&body)).await
    );
    snapshot!("gateway_connection", world.send(Method::POST, &format!("{gateway}/connectioninfo"), V1, None).await);
    snapshot!("gateway_regenerate", world.send(Method::POST, &format!("{gateway}/regeneratekey"), V1, None).await);
    snapshot!("gateway_missing", world.send(Method::GET, &f1("/gateways/nobody"), V1, None).await);
    assert_eq!(world.send(Method::DELETE, &format!("{ir}/nodes/node1"), V2, None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(world.send(Method::DELETE, &gateway, V1, None).await.status, StatusCode::OK);
    assert_eq!(world.send(Method::DELETE, &ir, V2, None).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_secret_without_a_gateway_is_refused_and_nothing_is_stored() {
    let world = World::start().await;
    world.good(Method::PUT, &f(""), V2, Some(json!({"location": "here"}))).await;
    world.runtime("gw1").await;
    let path = f("/linkedservices/pg");
    snapshot!("secret_nobody", world.send(Method::PUT, &path, V2, Some(&postgres("db1", secret(PASSWORD)))).await);
    assert_eq!(world.send(Method::GET, &path, V2, None).await.status, StatusCode::NOT_FOUND);
    for file in std::fs::read_dir(&world.data).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes()));
    }
}

#[tokio::test]
async fn documents() {
    let world = World::start().await;
    let node = world.furnished().await;
    let pg = f("/linkedservices/pg");
    snapshot!("linked_service_put", world.send(Method::PUT, &pg, V2, Some(&postgres("db1", secret(PASSWORD)))).await);
    let got = world.send(Method::GET, &f("/LinkedServices/PG"), V2, None).await;
    snapshot!("linked_service_get", got);
    snapshot!("linked_service_list", world.send(Method::GET, &f("/linkedservices"), V2, None).await);
    // The envelope is bound to the target and opens with the gateway's key.
    let envelope = got.body["properties"]["typeProperties"]["encryptedCredential"].as_str().unwrap();
    let binding = envelope_binding(envelope).unwrap();
    assert_eq!((binding["host"].as_str(), binding["database"].as_str()), ("db1", "shop"));
    let secrets = node.credential_key.open(&binding, envelope).unwrap();
    assert_eq!(secrets.get("password").unwrap().expose(), PASSWORD);
    // The mask means unchanged, as long as the target is.
    let masked = world.send(Method::PUT, &pg, V2, Some(&postgres("db1", secret("**********")))).await;
    assert_eq!(masked.status, StatusCode::OK, "{}", masked.body);
    assert_eq!(masked.body["properties"]["typeProperties"]["encryptedCredential"], envelope);
    snapshot!(
        "linked_service_mask_elsewhere",
        world.send(Method::PUT, &pg, V2, Some(&postgres("db2", secret("**********")))).await
    );
    snapshot!(
        "linked_service_unknown_type",
        world.send(Method::PUT, &pg, V2, Some(&json!({"properties": {"type": "Nope", "typeProperties": {}}}))).await
    );
    snapshot!("linked_service_no_type", world.send(Method::PUT, &pg, V2, Some(&json!({"properties": {}}))).await);
    snapshot!(
        "linked_service_bad_name",
        world.send(Method::PUT, &f("/linkedservices/a%2Bb"), V2, Some(&file_server())).await
    );
    let mut lost = file_server();
    lost["properties"]["connectVia"]["referenceName"] = json!("nobody");
    snapshot!("linked_service_no_gateway", world.send(Method::PUT, &f("/linkedservices/files"), V2, Some(&lost)).await);
    world.good(Method::PUT, &f("/linkedservices/files"), V2, Some(file_server())).await;
    snapshot!("dataset_missing_reference", {
        let mut body = table();
        body["properties"]["linkedServiceName"]["referenceName"] = json!("nobody");
        world.send(Method::PUT, &f("/datasets/in"), V2, Some(&body)).await
    });
    snapshot!("dataset_put", world.send(Method::PUT, &f("/datasets/in"), V2, Some(&table())).await);
    world.good(Method::PUT, &f("/datasets/out"), V2, Some(parquet())).await;
    snapshot!("dataset_list", world.send(Method::GET, &f("/datasets"), V2, None).await);
    snapshot!("pipeline_put", world.send(Method::PUT, &f("/pipelines/p"), V2, Some(&pipeline())).await);
    let mut leaky = pipeline();
    leaky["properties"]["parameters"] = json!({"p": {"type": "SecureString", "defaultValue": PASSWORD}});
    snapshot!("pipeline_with_secret", world.send(Method::PUT, &f("/pipelines/leaky"), V2, Some(&leaky)).await);
    snapshot!("pipeline_list", world.send(Method::GET, &f("/pipelines"), V2, None).await);
    // In use.
    snapshot!("in_use_linked_service", world.send(Method::DELETE, &pg, V2, None).await);
    snapshot!("in_use_dataset", world.send(Method::DELETE, &f("/datasets/in"), V2, None).await);
    snapshot!("in_use_gateway", world.send(Method::DELETE, &f("/integrationRuntimes/gw1"), V2, None).await);
    // Conditions.
    let stale = [("If-Match", "00000000-0000-0000-0000-0000000000ff")];
    snapshot!(
        "pipeline_precondition",
        world.send_with(Method::PUT, &f("/pipelines/p"), V2, Some(&pipeline()), &stale).await
    );
    let current = world.good(Method::GET, &f("/pipelines/p"), V2, None).await;
    let current = [("If-Match", current["etag"].as_str().unwrap())];
    assert_eq!(
        world.send_with(Method::PUT, &f("/pipelines/p"), V2, Some(&pipeline()), &current).await.status,
        StatusCode::OK
    );
    for path in ["/pipelines/p", "/datasets/in", "/datasets/out", "/linkedservices/pg", "/linkedservices/files"] {
        assert_eq!(world.send(Method::DELETE, &f(path), V2, None).await.status, StatusCode::OK, "{path}");
        assert_eq!(world.send(Method::DELETE, &f(path), V2, None).await.status, StatusCode::NO_CONTENT, "{path}");
    }
}

#[tokio::test]
async fn version_1_documents() {
    let world = World::start().await;
    let _node = world.furnished().await;
    let body = json!({"name": "store", "properties": {"type": "AzureStorage", "typeProperties": {
        "connectionString": format!("DefaultEndpointsProtocol=https;AccountName=acc;AccountKey={PASSWORD}")}}});
    let path = f("/v1documents/linkedservices/store");
    snapshot!("v1_linked_service_put", world.send(Method::PUT, &path, OURS, Some(&body)).await);
    snapshot!("v1_linked_service_get", world.send(Method::GET, &path, OURS, None).await);
    assert_eq!(world.good(Method::GET, &f("/linkedservices"), V2, None).await["value"], json!([]));
    snapshot!("v1_clash", world.send(Method::PUT, &f("/linkedservices/STORE"), V2, Some(&file_server())).await);
    assert_eq!(world.send(Method::PUT, &path, V2, Some(&body)).await.status, StatusCode::NOT_FOUND);
    snapshot!("sealing", world.send(Method::GET, &f("/sealing?gateway=gw1"), OURS, None).await);
    snapshot!("sealing_unknown", world.send(Method::GET, &f("/sealing?gateway=nobody"), OURS, None).await);
}

#[tokio::test]
async fn status_page() {
    let world = World::start().await;
    let _node = world.furnished().await;
    let url = world.url("/dmg/status");
    let refused = world.client.get(&url).send().await.unwrap();
    assert_eq!(refused.headers()["www-authenticate"], "Basic realm=\"dmg\"");
    let page = world.client.get(&url).basic_auth("me", Some(&world.token)).send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    let text = page.text().await.unwrap();
    assert!(text.contains("Gateway gw1: Online") && text.contains("node1"), "{text}");
    let json = world.client.get(&url).bearer_auth(&world.token).header("accept", "application/json");
    let json: Value = json.send().await.unwrap().json().await.unwrap();
    assert_eq!(json["factories"][0]["gateways"][0]["state"], "Online");
    let root = world.client.get(world.url("/")).send().await.unwrap();
    assert_eq!(root.headers()["location"], "/dmg/status");
}
