//! Runs over the real channel: handed out under leases, finished, failed, cancelled, lost, over restarts of the
//! service; and nodes that are cut off, replayed or forged.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use dmg_protocol::channel::{Outcome, POLL, RENEW, RenewRequest};
use dmg_protocol::job::{Job, ListedColumn, Listing};
use dmg_protocol::{CommandId, Fault, Kind, Signed};
use dmg_seal::SigningKey;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{GROUP, Node, OURS, V1, V2, World, post_bytes, shown};

fn f(path: &str) -> String {
    format!("{GROUP}/factories/sales{path}")
}

/// SQLite file to Parquet file, all through gateway gw1: no secret is needed.
async fn documents(world: &World, policy: Value) {
    let via = json!({"type": "IntegrationRuntimeReference", "referenceName": "gw1"});
    let to = |name: &str| json!({"referenceName": name, "type": "LinkedServiceReference"});
    let bodies = [
        (
            "/linkedservices/db",
            json!({"properties": {"type": "Sqlite", "connectVia": via, "typeProperties": {"path": "/srv/a.db"}}}),
        ),
        (
            "/linkedservices/files",
            json!({"properties": {"type": "FileServer", "connectVia": via, "typeProperties": {"host": "/srv/out"}}}),
        ),
        (
            "/datasets/in",
            json!({"properties": {"type": "SqliteTable", "linkedServiceName": to("db"), "typeProperties": {"tableName": "t"}}}),
        ),
        (
            "/datasets/out",
            json!({"properties": {"type": "Parquet", "linkedServiceName": to("files"),
                "typeProperties": {"location": {"type": "FileServerLocation", "fileName": "t.parquet"}}}}),
        ),
        (
            "/pipelines/p",
            json!({"properties": {"parameters": {"a": {"type": "Int", "defaultValue": 1}}, "activities": [
                {"name": "copy", "type": "Copy", "policy": policy,
                 "inputs": [{"referenceName": "in", "type": "DatasetReference"}],
                 "outputs": [{"referenceName": "out", "type": "DatasetReference"}],
                 "typeProperties": {"source": {"type": "SqliteSource"}, "sink": {"type": "ParquetSink"}}},
                {"name": "unbuilt", "type": "WebActivity", "dependsOn": [{"activity": "copy", "dependencyConditions": ["Failed"]}],
                 "typeProperties": {"url": "http://localhost", "method": "GET"}}]}}),
        ),
    ];
    for (path, body) in bodies {
        world.good(Method::PUT, &f(path), V2, Some(body)).await;
    }
}

async fn start(world: &World) -> String {
    let answer = world.good(Method::POST, &f("/pipelines/p/createRun"), V2, Some(json!({"a": 5}))).await;
    answer["runId"].as_str().unwrap().to_owned()
}

async fn activities(world: &World, run: &str) -> support::Answer {
    let body = json!({"lastUpdatedAfter": "2000-01-01T00:00:00Z", "lastUpdatedBefore": "2999-01-01T00:00:00.0000000Z",
        "orderBy": [{"orderBy": "ActivityName", "order": "ASC"}]});
    world.send(Method::POST, &f(&format!("/pipelineruns/{run}/queryActivityruns")), V2, Some(&body)).await
}

async fn ended(world: &World, run: &str) -> Value {
    world.until(&f(&format!("/pipelineruns/{run}")), |body| !body["runEnd"].is_null()).await
}

#[tokio::test]
async fn a_run_succeeds_with_a_receipt() {
    let world = World::start().await;
    let mut node = world.furnished().await;
    documents(&world, json!({})).await;
    assert!(!node.poll(0).await.unwrap().work);
    let run = start(&world).await;
    let grant = node.work().await;
    let Job::Copy(copy) = &grant.job else { panic!("a copy was expected") };
    assert_eq!(copy.parties.gateway.as_deref(), Some("gw1"));
    assert_eq!(copy.source.store.store, "sqlite");
    let lease = node.renew(&grant).await;
    assert!(lease.held && !lease.cancel);
    let running = activities(&world, &run).await;
    assert_eq!(running.body["value"][0]["status"], "InProgress");
    let receipt = node.receipt(&grant);
    assert!(node.finish(&grant, Outcome::Succeeded { receipt: receipt.clone() }).await);
    // A repeated report gets the first answer.
    assert!(node.finish(&grant, Outcome::Succeeded { receipt: receipt.clone() }).await);
    assert!(!node.renew(&grant).await.held);
    let done = ended(&world, &run).await;
    assert_eq!(done["status"], "Succeeded");
    insta::assert_snapshot!("run_activities", shown(&activities(&world, &run).await));
    insta::assert_snapshot!(
        "run_get",
        shown(&world.send(Method::GET, &f(&format!("/pipelineruns/{run}")), V2, None).await)
    );
    let query = json!({"lastUpdatedAfter": "2000-01-01T00:00:00Z", "lastUpdatedBefore": "2999-01-01T00:00:00Z",
        "filters": [{"operand": "PipelineName", "operator": "Equals", "values": ["p"]}, {"operand": "Status", "operator": "NotIn", "values": ["Failed"]}]});
    insta::assert_snapshot!(
        "run_query",
        shown(&world.send(Method::POST, &f("/queryPipelineRuns"), V2, Some(&query)).await)
    );
    let bad = json!({"lastUpdatedAfter": "yesterday"});
    insta::assert_snapshot!(
        "run_query_bad",
        shown(&world.send(Method::POST, &f("/queryPipelineRuns"), V2, Some(&bad)).await)
    );
    let path = f(&format!("/pipelineruns/{run}/activityruns/{}/receipt", grant.attempt.run));
    let stored: Signed = serde_json::from_value(world.good(Method::GET, &path, OURS, None).await).unwrap();
    assert_eq!(stored, receipt);
    let path = f(&format!("/pipelineruns/{run}/activityruns/unbuilt/receipt"));
    insta::assert_snapshot!("receipt_none", shown(&world.send(Method::GET, &path, OURS, None).await));
}

#[tokio::test]
async fn a_receipt_of_somebody_else_is_none() {
    let world = World::start().await;
    let mut node = world.furnished().await;
    documents(&world, json!({})).await;
    let run = start(&world).await;
    let grant = node.work().await;
    let mut receipt = node.receipt(&grant);
    receipt.signature.value = SigningKey::generate().sign_bytes(b"else");
    assert!(node.finish(&grant, Outcome::Succeeded { receipt }).await);
    let done = ended(&world, &run).await;
    assert_eq!(done["status"], "Failed");
    assert!(done["message"].as_str().unwrap().contains("copy failed: UserErrorReceipt"), "{done}");
}

#[tokio::test]
async fn failures_are_tried_again_and_then_reported() {
    let world = World::start().await;
    let mut node = world.furnished().await;
    documents(&world, json!({"retry": 1, "retryIntervalInSeconds": 30})).await;
    let run = start(&world).await;
    let grant = node.work().await;
    let fault = || Fault::new("StoreErrorFailed", "The store said no.");
    assert!(node.finish(&grant, Outcome::Failed { fault: fault() }).await);
    let waiting = activities(&world, &run).await;
    assert_eq!(
        (&waiting.body["value"][0]["status"], &waiting.body["value"][0]["retryAttempt"]),
        (&json!("Queued"), &json!(1))
    );
    // The pause of the policy is kept.
    assert!(!node.poll(0).await.unwrap().work);
    assert!(node.take().await.is_none());
    world.good(Method::POST, &f(&format!("/pipelineruns/{run}/cancel")), V2, None).await;
    assert_eq!(ended(&world, &run).await["status"], "Cancelled");

    documents(&world, json!({})).await;
    let run = start(&world).await;
    let grant = node.work().await;
    assert!(node.finish(&grant, Outcome::Failed { fault: fault() }).await);
    // What follows on failure is refused with its own reason, and that decides.
    let done = ended(&world, &run).await;
    assert_eq!(done["status"], "Failed");
    insta::assert_snapshot!("run_failed_activities", shown(&activities(&world, &run).await));
}

#[tokio::test]
async fn a_released_job_comes_back_with_a_higher_epoch() {
    let world = World::start().await;
    let mut node = world.furnished().await;
    documents(&world, json!({})).await;
    let run = start(&world).await;
    let mut last = 0;
    for round in 0..6 {
        let grant = node.work().await;
        assert!(grant.attempt.epoch.0 > last);
        last = grant.attempt.epoch.0;
        let fault = Fault::new("SystemErrorAborted", "The worker was killed.");
        assert!(node.finish(&grant, Outcome::Released { fault }).await, "round {round}");
    }
    let done = ended(&world, &run).await;
    assert_eq!(done["status"], "Failed");
}

#[tokio::test]
async fn cancel_reaches_a_held_job() {
    let world = World::start().await;
    let mut node = world.furnished().await;
    documents(&world, json!({})).await;
    let run = start(&world).await;
    let grant = node.work().await;
    let path = f(&format!("/pipelineruns/{run}/cancel?isRecursive=true"));
    assert_eq!(world.send(Method::POST, &path, V2, None).await.status, StatusCode::OK);
    let hints = node.poll_with(5, vec![grant.job_id.clone()]).await.unwrap();
    assert_eq!(hints.cancel, std::slice::from_ref(&grant.job_id));
    assert!(node.renew(&grant).await.cancel);
    let status = world.good(Method::GET, &f(&format!("/pipelineruns/{run}")), V2, None).await;
    assert_eq!(status["status"], "Canceling");
    assert!(node.finish(&grant, Outcome::Cancelled).await);
    assert_eq!(ended(&world, &run).await["status"], "Cancelled");
    let unknown = f("/pipelineruns/2f7fdb90-5df1-4b8e-ac2f-064cfa58202b/cancel");
    insta::assert_snapshot!("cancel_unknown", shown(&world.send(Method::POST, &unknown, V2, None).await));
}

#[tokio::test]
async fn a_taken_job_is_given_once_and_survives_a_restart_of_the_service() {
    let world = World::start().await;
    let (record, identity, credential_key, grant, run, second);
    {
        let mut node = world.furnished().await;
        documents(&world, json!({})).await;
        run = start(&world).await;
        second = start(&world).await;
        let command = CommandId::new("c1");
        while !node.poll(1).await.unwrap().work {}
        grant = node.take_as(command.clone()).await.unwrap();
        let again = node.take_as(command).await.unwrap();
        assert_eq!((again.job_id, again.attempt.epoch), (grant.job_id.clone(), grant.attempt.epoch));
        (record, identity, credential_key) = (node.record.clone(), node.identity.to_pkcs8(), node.credential_key);
    }
    let world = world.restart().await;
    let keys = world.good(Method::POST, &f("/integrationRuntimes/gw1/listAuthKeys"), V2, None).await;
    // A second node must not get what the first one holds.
    let mut other = Node::register(&world, keys["authKey2"].as_str().unwrap(), "node2").await.unwrap();
    assert!(!other.holds);
    assert!(other.take().await.is_none(), "a node that opens no credential gets no job");
    let mut node = other.becomes(record, SigningKey::from_pkcs8(&identity).unwrap(), credential_key).await;
    assert!(node.renew(&grant).await.held);
    let next = node.work().await;
    assert_ne!(next.job_id, grant.job_id);
    assert!(next.attempt.epoch > grant.attempt.epoch);
    let receipt = node.receipt(&grant);
    assert!(node.finish(&grant, Outcome::Succeeded { receipt }).await);
    assert_eq!(ended(&world, &run).await["status"], "Succeeded");
    let receipt = node.receipt(&next);
    assert!(node.finish(&next, Outcome::Succeeded { receipt }).await);
    assert_eq!(ended(&world, &second).await["status"], "Succeeded");
}

#[tokio::test]
async fn a_lost_lease_is_given_to_somebody_else_and_the_late_one_is_refused() {
    let world = World::start().await;
    let mut node = world.furnished().await;
    documents(&world, json!({})).await;
    let run = start(&world).await;
    let late = node.work().await;
    // No renewal: the lease runs out and the job comes back.
    let grant = node.work().await;
    assert_eq!(grant.job_id, late.job_id);
    assert!(grant.attempt.epoch > late.attempt.epoch);
    assert!(!node.renew(&late).await.held);
    let receipt = node.receipt(&late);
    assert!(!node.finish(&late, Outcome::Succeeded { receipt }).await);
    let receipt = node.receipt(&grant);
    assert!(node.finish(&grant, Outcome::Succeeded { receipt }).await);
    assert_eq!(ended(&world, &run).await["status"], "Succeeded");
}

#[tokio::test]
async fn replays_and_forgeries_are_refused() {
    let world = World::start().await;
    let mut node = world.furnished().await;
    let body = serde_json::to_vec(&RenewRequest {
        job_id: dmg_protocol::JobId::new("j"),
        epoch: dmg_protocol::Epoch(1),
        progress: None,
    })
    .unwrap();
    let headers = node.sign(RENEW, &body);
    post_bytes::<Value>(&world, RENEW, body.clone(), &headers).await.unwrap();
    let refused = |answer: Result<Value, (StatusCode, Fault)>| {
        let (status, fault) = answer.unwrap_err();
        assert_eq!((status, fault.code.as_str()), (StatusCode::UNAUTHORIZED, "UserErrorAuthentication"));
    };
    refused(post_bytes(&world, RENEW, body.clone(), &headers).await);
    let headers = node.sign(RENEW, &body);
    refused(post_bytes(&world, POLL, body.clone(), &headers).await);
    let mut other = body.clone();
    other.push(b' ');
    refused(post_bytes(&world, RENEW, other, &headers).await);
    refused(post_bytes(&world, RENEW, body.clone(), &[]).await);
    // A forged request does not use the number up.
    post_bytes::<Value>(&world, RENEW, body, &headers).await.unwrap();
}

#[tokio::test]
async fn a_regenerated_key_cuts_nodes_off_and_an_auth_key_does_not() {
    let world = World::start().await;
    let mut node = world.furnished().await;
    let keys = world.good(Method::POST, &f("/integrationRuntimes/gw1/listAuthKeys"), V2, None).await;
    let body = json!({"keyName": "authKey1"});
    world.good(Method::POST, &f("/integrationRuntimes/gw1/regenerateAuthKey"), V2, Some(body)).await;
    node.poll(0).await.unwrap();
    let old = Node::register(&world, keys["authKey1"].as_str().unwrap(), "node2").await;
    let (status, fault) = old.err().unwrap();
    assert_eq!((status, fault.code.as_str()), (StatusCode::FORBIDDEN, "UserErrorGatewayKey"));
    assert!(Node::register(&world, keys["authKey2"].as_str().unwrap(), "node2").await.is_ok());
    let gateway = format!("{GROUP}/datafactories/sales/gateways/gw1/regeneratekey");
    let before = world.ambient.uptime();
    let (answer, ()) = tokio::join!(node.poll(20), async {
        world.ambient.sleep(Duration::from_millis(200)).await;
        world.good(Method::POST, &gateway, V1, None).await;
    });
    let (status, fault) = answer.unwrap_err();
    assert_eq!((status, fault.code.as_str()), (StatusCode::UNAUTHORIZED, "UserErrorGatewayKey"));
    assert!(world.ambient.uptime() - before < Duration::from_secs(5));
    let (_, fault) = node.open().await.unwrap_err();
    assert_eq!(fault.code, "UserErrorGatewayKey");
    let state = world.good(Method::POST, &f("/integrationRuntimes/gw1/getStatus"), V2, None).await;
    assert_eq!(state["properties"]["state"], "NeedRegistration");
}

#[tokio::test]
async fn a_connection_test_is_a_job() {
    let world = World::start().await;
    let mut node = world.furnished().await;
    documents(&world, json!({})).await;
    let path = f("/linkedservices/db/testConnection");
    let asked = world.good(Method::POST, &path, OURS, None).await;
    let id = asked["id"].as_str().unwrap();
    let grant = node.work().await;
    assert!(matches!(grant.job, Job::Probe(_)));
    assert!(node.finish(&grant, Outcome::Probed { detail: "SQLite 3".into() }).await);
    insta::assert_snapshot!("test_good", shown(&world.send(Method::GET, &format!("{path}/{id}"), OURS, None).await));
    let asked = world.good(Method::POST, &path, OURS, None).await;
    let id = asked["id"].as_str().unwrap();
    let grant = node.work().await;
    let fault = Fault::new("UserErrorContainerMissing", "The file /srv/a.db does not exist.");
    assert!(node.finish(&grant, Outcome::Failed { fault }).await);
    insta::assert_snapshot!("test_bad", shown(&world.send(Method::GET, &format!("{path}/{id}"), OURS, None).await));
    insta::assert_snapshot!("test_unknown", shown(&world.send(Method::GET, &format!("{path}/x"), OURS, None).await));
}

/// A look waits for its answer, and may be asked for again; what is no look is refused before anything is queued.
#[tokio::test]
async fn a_look_into_a_store_is_a_job() {
    let world = World::start().await;
    let mut node = world.furnished().await;
    documents(&world, json!({})).await;
    let path = f("/linkedservices/db/browse");
    let wanted = json!({ "look": "preview", "object": { "kind": "table", "table": "orders" }, "rows": 2 });
    let (answer, outcome) = tokio::join!(world.send(Method::POST, &path, OURS, Some(&wanted)), async {
        let grant = node.work().await;
        let Job::Browse(job) = &grant.job else { panic!("no look: {:?}", grant.job) };
        assert_eq!(job.store.linked_service.as_deref(), Some("db"));
        let column = ListedColumn {
            name: "id".into(),
            type_name: "INTEGER".into(),
            kind: Kind::Int64,
            nullable: false,
            key: true,
        };
        let rows = vec![vec![Some("1".to_owned())], vec![None]];
        let listing = Box::new(Listing::Preview { columns: vec![column], rows });
        node.finish(&grant, Outcome::Browsed { listing }).await
    });
    assert!(outcome);
    let id = answer.body["id"].as_str().unwrap().to_owned();
    assert_eq!((answer.status, &answer.body["status"]), (StatusCode::OK, &json!("Succeeded")));
    assert_eq!(answer.body["listing"]["rows"], json!([["1"], [null]]));
    let again = world.good(Method::GET, &format!("{path}/{id}"), OURS, None).await;
    assert_eq!(again, answer.body);
    for wrong in [
        json!({}),
        json!({ "look": "everything" }),
        json!({ "look": "preview", "object": { "kind": "table", "table": "t" }, "rows": 0 }),
        json!({ "look": "preview", "object": { "kind": "table", "table": "t" }, "rows": 1001 }),
        json!({ "look": "columns" }),
    ] {
        let answer = world.send(Method::POST, &path, OURS, Some(&wrong)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}: {}", answer.body);
    }
    // A look that fails says why.
    let wanted = json!({ "look": "schemas" });
    let (answer, ()) = tokio::join!(world.send(Method::POST, &path, OURS, Some(&wanted)), async {
        let grant = node.work().await;
        let fault = Fault::new("UserErrorLoginRefused", "PostgreSQL db refused login.");
        assert!(node.finish(&grant, Outcome::Failed { fault }).await);
    });
    assert_eq!(
        (&answer.body["status"], &answer.body["fault"]["code"]),
        (&json!("Failed"), &json!("UserErrorLoginRefused"))
    );
}

/// The gateway's state follows its nodes: all well, one that opens no credential, and one whose connection is gone.
#[tokio::test]
async fn states_follow_the_nodes() {
    let world = World::start().await;
    let mut node = world.furnished().await;
    let state = async || {
        let path = f("/integrationRuntimes/gw1/getStatus");
        let body = world.good(Method::POST, &path, V2, None).await;
        let nodes = body["properties"]["typeProperties"]["nodes"].as_array().unwrap().clone();
        let nodes: Vec<String> = nodes.iter().map(|node| node["status"].as_str().unwrap().to_owned()).collect();
        (body["properties"]["state"].as_str().unwrap().to_owned(), nodes)
    };
    assert_eq!(state().await, ("Online".to_owned(), vec!["Online".to_owned()]));
    let second = world.node("gw1", "node2").await;
    assert!(!second.holds);
    assert_eq!(state().await, ("Limited".to_owned(), vec!["Online".to_owned(), "Limited".to_owned()]));
    world.good(Method::DELETE, &f("/integrationRuntimes/gw1/nodes/node2"), V2, None).await;
    // A poll that is held is presence for as long as its connection lives.
    let started = world.ambient.uptime();
    let held = tokio::time::timeout(Duration::from_secs(13), node.poll(20));
    let (ended, during) = tokio::join!(held, async {
        world.ambient.sleep(Duration::from_secs(12)).await;
        state().await
    });
    assert!(ended.is_err(), "the poll was to be cut");
    assert_eq!(during.0, "Online");
    loop {
        let (now, _) = state().await;
        if now == "Offline" {
            break;
        }
        assert!(world.ambient.uptime() - started < Duration::from_secs(20), "the gateway stays {now}");
        world.ambient.sleep(Duration::from_millis(100)).await;
    }
    node.poll(0).await.unwrap();
    assert_eq!(state().await.0, "Online");
}
