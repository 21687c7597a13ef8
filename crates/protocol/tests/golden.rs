//! One golden file per document that is stored or sent: what this version writes must stay readable, byte for byte.
//! A changed file is a changed wire. `DMG_BLESS=1` writes the files anew; look at the difference before committing it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;

use dmg_protocol::channel::*;
use dmg_protocol::job::*;
use dmg_protocol::worker::{FromWorker, PipeSecret, PipeSecrets, Progress, Start, ToWorker};
use dmg_protocol::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/protocol")).join(format!("{name}.json"))
}

/// Compares the text of the samples with the golden file and returns the golden text.
fn golden_text<T: Serialize>(name: &str, samples: &[T]) -> String {
    let text = serde_json::to_string_pretty(samples).unwrap() + "\n";
    if bless() {
        std::fs::create_dir_all(path(name).parent().unwrap()).unwrap();
        std::fs::write(path(name), &text).unwrap();
    }
    let golden = std::fs::read_to_string(path(name)).unwrap();
    assert_eq!(golden, text, "{name}: the wire changed");
    golden
}

#[expect(clippy::disallowed_methods, reason = "only this test's own switch")]
fn bless() -> bool {
    std::env::var("DMG_BLESS").is_ok()
}

/// As above, and reads the golden file back into equal values.
fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, samples: &[T]) {
    let read: Vec<T> = serde_json::from_str(&golden_text(name, samples)).unwrap();
    assert_eq!(read, samples, "{name}");
}

fn strings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn settings(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn attempt() -> Attempt {
    Attempt {
        namespace: "5d0c5ad8-0000-4000-8000-000000000001".into(),
        run: RunId::new("8f14e45f-ceea-467f-9575-000000000002"),
        epoch: Epoch(3),
    }
}

fn parties() -> ReceiptParties {
    ReceiptParties {
        factory: Some("sales".into()),
        gateway: Some("plant".into()),
        node: "plant-1".into(),
        pipeline: Some("nightly".into()),
        activity: Some("copy orders".into()),
        pipeline_run: Some("8f14e45f-ceea-467f-9575-000000000003".into()),
    }
}

fn postgres() -> StoreRef {
    StoreRef {
        store: "postgres".into(),
        linked_service: Some("Orders".into()),
        settings: settings(json!({"host": "db.example", "port": 5432, "database": "orders", "user": "etl"})),
        envelope: Some("eyJwcm90ZWN0ZWQiOiIifQ".into()),
        binding: strings(&[("database", "orders"), ("host", "db.example"), ("port", "5432"), ("v", "1")]),
    }
}

fn blob() -> StoreRef {
    StoreRef {
        store: "azblob".into(),
        linked_service: None,
        settings: settings(json!({"account": "lake"})),
        envelope: None,
        binding: BTreeMap::new(),
    }
}

fn copy() -> Job {
    let text = TextFormat { quote_char: Some('"'), escape_char: Some('\\'), ..TextFormat::default() };
    Job::Copy(Box::new(CopyJob {
        parties: parties(),
        source: Endpoint {
            store: postgres(),
            object: StoreObject::Table { schema: Some("public".into()), table: "orders".into() },
            format: None,
            declared: Vec::new(),
        },
        sink: Endpoint {
            store: blob(),
            object: StoreObject::Files { folder: "raw/orders".into(), file: Some("o.csv".into()), recursive: false },
            format: Some(FormatSpec::Text(text)),
            declared: vec![DeclaredColumn { kind: Some(Kind::Int64), ..DeclaredColumn::named("id") }],
        },
        mapping: vec![ColumnMapping::named("id", "Id")],
        options: CopyOptions {
            mode: WriteMode::Overwrite,
            verify: VerifyLevel::Full,
            parallel: Some(2),
            memory_mib: 128,
            allow_lossy: vec!["note".into()],
            pre_copy_script: Some("DELETE FROM staging".into()),
            create_table: true,
            ..CopyOptions::default()
        },
    }))
}

fn jobs() -> Vec<Job> {
    let mut query = copy();
    if let Job::Copy(job) = &mut query {
        job.parties = ReceiptParties { node: "here".into(), ..ReceiptParties::default() };
        job.source.object = StoreObject::Query { text: "SELECT 1".into() };
        job.sink.format = Some(FormatSpec::Parquet(ParquetFormat { compression: ParquetCompression::Zstd }));
        job.sink.object = StoreObject::Files { folder: String::new(), file: None, recursive: true };
        job.sink.declared = Vec::new();
        job.mapping = Vec::new();
        job.options = CopyOptions::default();
    }
    vec![copy(), query, modes(), told(), Job::Probe(Box::new(ProbeJob { store: postgres() })), procedure(), browse()]
}

fn procedure_outcome() -> ProcedureOutcome {
    ProcedureOutcome {
        outputs: [("count".to_owned(), Some("3".to_owned()))].into(),
        return_status: Some(0),
        rows_affected: Some(3),
        messages: vec!["done".into()],
    }
}

fn parameter() -> ProcedureParameter {
    ProcedureParameter { name: "day".into(), type_name: Some("Datetime".into()), value: Some("2026-01-02".into()) }
}

fn modes() -> Job {
    let mut job = copy();
    if let Job::Copy(job) = &mut job {
        job.mapping[0] = ColumnMapping {
            kind: Some(Kind::Date),
            format: Some("dd/MM/yyyy".into()),
            culture: Some("fr-fr".into()),
            ..ColumnMapping::named("day", "Day")
        };
        let redirect = Redirect { store: blob(), folder: "raw/rejected".into(), layout: RedirectLayout::Named };
        job.options = CopyOptions {
            mode: WriteMode::Upsert,
            keys: vec!["id".into()],
            slice: Some(Slice { column: "slice".into(), value: "ab".repeat(32) }),
            procedure: Some(WriteProcedure {
                name: "dbo.take".into(),
                table_type: Some("dbo.OrderType".into()),
                table_parameter: Some("orders".into()),
                parameters: vec![parameter()],
            }),
            batch_rows: Some(10_000),
            batch_timeout_seconds: Some(1800),
            added: vec![
                AddedColumn { name: "load".into(), value: AddedValue::Text { text: "night".into() } },
                AddedColumn { name: "run".into(), value: AddedValue::RunId },
                AddedColumn { name: "file".into(), value: AddedValue::SourceFile },
                AddedColumn { name: "row".into(), value: AddedValue::RowNumber },
                AddedColumn { name: "twin".into(), value: AddedValue::Column { column: "id".into() } },
            ],
            drift: Drift::Add,
            tolerance: Some(Tolerance {
                rows_max: Some(100),
                share_max: Some(0.5),
                redirect: Some(Box::new(redirect)),
            }),
            rows_per_second: Some(1_000),
            bytes_per_second: Some(1_000_000),
            ..CopyOptions::default()
        };
    }
    job
}

/// Rows left out told as the original tells them, and a log.
fn told() -> Job {
    let mut job = copy();
    if let Job::Copy(job) = &mut job {
        let redirect = Redirect { store: blob(), folder: "raw/rejected".into(), layout: RedirectLayout::Original };
        let tolerance = Tolerance { rows_max: None, share_max: None, redirect: Some(Box::new(redirect)) };
        let log = SessionLog { store: blob(), folder: "raw/logs".into(), level: LogLevel::Info };
        job.options = CopyOptions { tolerance: Some(tolerance), log: Some(Box::new(log)), ..CopyOptions::default() };
    }
    job
}

fn procedure() -> Job {
    let call = ProcedureCall { name: "dbo.merge".into(), parameters: vec![parameter()], timeout_seconds: Some(60) };
    let parties = ReceiptParties { node: "here".into(), ..ReceiptParties::default() };
    Job::Procedure(Box::new(ProcedureJob { parties, store: postgres(), call }))
}

fn browse() -> Job {
    let object = StoreObject::Table { schema: None, table: "orders".into() };
    Job::Browse(Box::new(BrowseJob { store: postgres(), browse: Browse::Preview { object, rows: 10 }, format: None }))
}

fn plan() -> Plan {
    let column = |name: &str, kind, verdict, reason: Option<&str>| ColumnPlan {
        source: name.into(),
        sink: name.into(),
        kind,
        source_type: "numeric".into(),
        sink_type: "decimal".into(),
        key: false,
        required: false,
        verdict,
        reason: reason.map(str::to_owned),
    };
    Plan {
        version: 1,
        attempt: attempt(),
        source: "PostgreSQL db.example:5432/orders public.orders".into(),
        target: "blob lake raw/orders/o.csv".into(),
        columns: vec![
            column("id", Kind::Int64, Verdict::Exact, None),
            column("price", Kind::Decimal { precision: 38, scale: 10 }, Verdict::Widened, Some("wider")),
            column("tag", Kind::EngineText, Verdict::Checked, Some("inet as text")),
            column("note", Kind::Text, Verdict::Lossy, Some("by the author's word")),
        ],
        parts: vec![PartPlan { index: 0, label: "ctid (0,0)..".into(), spec: json!({"from": 0}) }],
        lanes: 2,
        mode: WriteMode::Overwrite,
        shape: CommitShape::BlockList,
        condition: Some("absent".into()),
        verify: VerifyLevel::Transferred,
        notices: vec!["one part only: the table is a view".into()],
    }
}

fn digest() -> Digest {
    Digest {
        algorithm: "dmg-xxh3-128/1".into(),
        rows: 2,
        columns: vec![ColumnDigest { name: "id".into(), kind: Kind::Int64, sum: "0".repeat(32) }],
        row_sum: "f".repeat(32),
    }
}

fn receipt() -> Receipt {
    let side = |bytes| SideReport { rows: 2, bytes, files: 1, peak_connections: 2, digest: Some(digest()) };
    Receipt {
        version: 1,
        attempt: attempt(),
        parties: parties(),
        program: "dmg 0.1.0".into(),
        source: "PostgreSQL db.example:5432/orders public.orders".into(),
        target: "blob lake raw/orders/o.csv".into(),
        started: "2026-01-01T00:00:00.000000Z".into(),
        ended: "2026-01-01T00:00:01.500000Z".into(),
        columns: vec![ReceiptColumn {
            source: "id".into(),
            sink: "Id".into(),
            kind: Kind::Int64,
            source_type: "bigint".into(),
            sink_type: "int64".into(),
            verdict: Verdict::Exact,
        }],
        read: side(16),
        written: side(20),
        verify: VerifyLevel::Transferred,
        evidence: "stagedReadBack".into(),
        mode: WriteMode::Overwrite,
        shape: CommitShape::Rename,
        mark: "20-1-2".into(),
        found_committed: true,
        restarted: Some("the source cannot be read again from the same snapshot".into()),
        resumed: Some(Resumed { epoch: Epoch(2), parts: 3, rows: 7 }),
        repeated: Some(Repeated {
            parts: 1,
            rows: 4,
            by_code: [("NetworkErrorStoreUnreachable".to_owned(), 1)].into(),
        }),
        stages: vec![StageTime { stage: "move".into(), seconds: 1.25 }],
        bottleneck: Bottleneck {
            read_seconds: 0.5,
            convert_seconds: 0.25,
            write_seconds: 0.125,
            parallel_share: 0.75,
            verdict: "decode".into(),
            side: "gateway".into(),
        },
        skipped: Some(Skipped {
            rows: 2,
            redirect: Some("rejected/20.csv".into()),
            digest: Some("0f".repeat(16)),
            by_code: [("UserErrorValue".to_owned(), 2)].into(),
        }),
        notices: vec!["a remark".into()],
    }
}

fn signed(kind: &str) -> Signed {
    let signature = Signature { algorithm: "ed25519".into(), public_key: "cHVibGlj".into(), value: "dmFsdWU".into() };
    Signed { kind: kind.into(), payload: "{}".into(), signature, vouched: None }
}

fn fault() -> Fault {
    Fault::new("StoreErrorNoSpace", "The disk of /data is full.").with("path", "/data")
}

fn progress() -> Progress {
    Progress {
        stage: "move".into(),
        rows_read: 10,
        rows_written: 9,
        bytes_read: 100,
        bytes_written: 90,
        parts_done: 1,
        parts: 4,
        rows_estimate: Some(40),
        seconds: 0.5,
    }
}

#[test]
fn values() {
    let kinds: Vec<Kind> = "boolean int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 decimal(38,10) \
                            decimal text bytes date timestamp instant time uuid json engine-text timestamp-nanos \
                            instant-nanos time-nanos instant-with-offset"
        .split_whitespace()
        .map(|name| name.parse().unwrap())
        .collect();
    golden("kinds", &kinds);
    golden("verdicts", &[Verdict::Exact, Verdict::Widened, Verdict::Checked, Verdict::Lossy]);
    golden("retries", &[Retry::Never, Retry::Now, Retry::Later, Retry::AfterFix]);
    golden("fault", &[fault(), Fault::new("SystemErrorInternal", "Something impossible happened.")]);
    golden("attempt", &[attempt()]);
}

#[test]
fn documents() {
    golden("job", &jobs());
    let mut shapes = vec![plan()];
    for shape in [CommitShape::Direct, CommitShape::Swap, CommitShape::Staged, CommitShape::Rename] {
        let verify = if shape == CommitShape::Direct { VerifyLevel::None } else { VerifyLevel::Counts };
        let (condition, notices, mode) = (None, Vec::new(), WriteMode::Append);
        shapes.push(Plan { shape, verify, condition, notices, mode, ..plan() });
    }
    golden("plan", &shapes);
    let plain = Receipt {
        parties: ReceiptParties { node: "here".into(), ..ReceiptParties::default() },
        read: SideReport::default(),
        written: SideReport::default(),
        restarted: None,
        resumed: None,
        repeated: None,
        skipped: None,
        bottleneck: Bottleneck::default(),
        notices: Vec::new(),
        found_committed: false,
        ..receipt()
    };
    golden("receipt", &[receipt(), plain]);
    let vouched = Some(Box::new(signed("dmg-node-record/1")));
    golden("signed", &[signed("dmg-hello/1"), Signed { vouched, ..signed("dmg-receipt/1") }]);
    golden(
        "node-record",
        &[NodeRecord {
            factory: "sales".into(),
            factory_id: FactoryId::new("5d0c5ad8-0000-4000-8000-000000000001"),
            gateway: "plant".into(),
            gateway_id: GatewayId::new("5d0c5ad8-0000-4000-8000-000000000004"),
            node_id: NodeId::new("5d0c5ad8-0000-4000-8000-000000000005"),
            node: "plant-1".into(),
            public_key: "cHVibGlj".into(),
            registered: "2026-01-01T00:00:00.000000Z".into(),
        }],
    );
}

#[test]
fn enrolment() {
    golden("channel-hello-request", &[HelloRequest { nonce: "bm9uY2U".into(), versions: vec![1] }]);
    golden(
        "channel-hello",
        &[Hello {
            nonce: "bm9uY2U".into(),
            challenge: "Y2hhbGxlbmdl".into(),
            tls_spki: vec!["c3BraQ".into()],
            unix_time: 1_767_225_600,
            version: 1,
            program: "dmg 0.1.0".into(),
        }],
    );
    golden(
        "channel-enroll-request",
        &[EnrollRequest {
            gateway_id: GatewayId::new("5d0c5ad8-0000-4000-8000-000000000004"),
            challenge: "Y2hhbGxlbmdl".into(),
            node_name: "plant-1".into(),
            machine_name: "plant-1.example".into(),
            public_key: "cHVibGlj".into(),
            program: "dmg 0.1.0".into(),
            proof: "cHJvb2Y".into(),
        }],
    );
    let record = signed("dmg-node-record/1");
    golden(
        "channel-enrolled",
        &[
            Enrolled { record: record.clone(), certificate: None },
            Enrolled { record, certificate: Some("-----BEGIN CERTIFICATE-----\n".into()) },
        ],
    );
    golden(
        "channel-session-request",
        &[SessionRequest {
            node_id: NodeId::new("5d0c5ad8-0000-4000-8000-000000000005"),
            challenge: "Y2hhbGxlbmdl".into(),
            signature: "c2lnbmF0dXJl".into(),
            program: "dmg 0.1.0".into(),
        }],
    );
    golden(
        "channel-session",
        &[Session { session_id: SessionId::new("s"), seconds: SESSION_SECONDS, unix_time: 1_767_225_600 }],
    );
    golden(
        "channel-certificate-request",
        &[CertificateRequest { certificate: "-----BEGIN CERTIFICATE-----\n".into(), replace: true }],
    );
}

#[test]
fn work() {
    let job_id = JobId::new("5d0c5ad8-0000-4000-8000-000000000006");
    let command_id = CommandId::new("5d0c5ad8-0000-4000-8000-000000000007");
    let status = NodeStatus {
        running: vec![job_id.clone()],
        concurrent_jobs_limit: 4,
        max_concurrent_jobs: 16,
        available_memory_mib: 1024,
        cpu_percent: 50,
        sent_bytes: 1.5,
        received_bytes: 0.0,
        holds_certificate: true,
        certificate_thumbprint: Some("ab".repeat(32)),
        program: "dmg 0.1.0".into(),
    };
    golden(
        "channel-poll-request",
        &[PollRequest { status, wait_seconds: 20 }, PollRequest { status: NodeStatus::default(), wait_seconds: 0 }],
    );
    golden(
        "channel-hints",
        &[
            Hints { work: true, cancel: vec![job_id.clone()], concurrent_jobs_limit: Some(2), nonce: 7 },
            Hints::default(),
        ],
    );
    golden("channel-take-request", &[TakeRequest { command_id: command_id.clone() }]);
    golden("channel-take-answer", &[TakeAnswer::default(), TakeAnswer { grant: Some(signed("dmg-job/1")) }]);
    let grant = |earlier_plan| JobGrant {
        job_id: job_id.clone(),
        attempt: attempt(),
        command_id: command_id.clone(),
        node_id: NodeId::new("5d0c5ad8-0000-4000-8000-000000000005"),
        factory_id: FactoryId::new("5d0c5ad8-0000-4000-8000-000000000001"),
        job: copy(),
        earlier_plan,
        lease_seconds: LEASE_SECONDS,
    };
    golden("channel-job-grant", &[grant(None), grant(Some(plan()))]);
    let renew = |progress| RenewRequest { job_id: job_id.clone(), epoch: Epoch(3), progress };
    golden("channel-renew-request", &[renew(None), renew(Some(progress()))]);
    golden("channel-plan-request", &[PlanRequest { job_id: job_id.clone(), epoch: Epoch(3), plan: plan() }]);
    golden("channel-lease-answer", &[LeaseAnswer { held: true, lease_seconds: 15, cancel: false }]);
    let outcomes = [
        Outcome::Succeeded { receipt: signed("dmg-receipt/1") },
        Outcome::Probed { detail: "PostgreSQL 15.18".into() },
        Outcome::Called { returned: procedure_outcome() },
        Outcome::Browsed { listing: Box::new(Listing::Schemas { names: vec!["dbo".into()], more: false }) },
        Outcome::Failed { fault: fault() },
        Outcome::Cancelled,
        Outcome::Released { fault: Fault::new("SystemErrorAborted", "The worker ended by signal 9.") },
    ];
    let finish = |outcome| FinishRequest { job_id: job_id.clone(), epoch: Epoch(3), outcome, progress: None };
    golden("channel-finish-request", &outcomes.map(finish));
    golden("channel-finish-answer", &[FinishAnswer { accepted: true }]);
}

#[test]
fn worker() {
    let said = [
        FromWorker::Planned { plan: Box::new(plan()) },
        FromWorker::Progress { progress: progress() },
        FromWorker::MayCommit,
        FromWorker::Finished { receipt: Box::new(receipt()) },
        FromWorker::Probed { detail: "PostgreSQL 15.18".into() },
        FromWorker::Called { outcome: procedure_outcome() },
        FromWorker::Browsed { listing: Box::new(Listing::Schemas { names: vec!["dbo".into()], more: false }) },
        FromWorker::Failed { fault: fault() },
    ];
    golden("worker-says", &said);

    let secrets: Secrets = [("password".to_owned(), Secret::from("a planted password"))].into_iter().collect();
    let start = Start {
        job: copy(),
        attempt: attempt(),
        source_secrets: PipeSecrets::new(&secrets),
        sink_secrets: PipeSecrets::default(),
        redirect_secrets: PipeSecrets::default(),
        digest_key: Some(PipeSecret::new(&Secret::from("a planted digest key"))),
        plan: Some(plan()),
    };
    let orders = [ToWorker::Start(Box::new(start)), ToWorker::CommitAnswer { granted: true }, ToWorker::Cancel];
    // These hold secrets and therefore cannot be compared; reading them back must write the same text.
    let text = golden_text("worker-hears", &orders);
    let read: Vec<ToWorker> = serde_json::from_str(&text).unwrap();
    golden_text("worker-hears", &read);
}
