//! The host with real workers under a service that misbehaves: outages, lost leases, cancels, foreign grants, a node
//! that is cut off. The service is played; the host, the worker processes and the files are real. Their work with the
//! real service is tested in `tests/system`.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says why it is skipped")]

mod played;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dmg_ambient::{Ambient, TaskGroup};
use dmg_gateway::host::{self, WorkerProgram};
use dmg_protocol::channel::{
    CERTIFICATE, ENROLL, EnrollRequest, Enrolled, FINISH, FinishAnswer, FinishRequest, HELLO, Hints, JobGrant,
    LeaseAnswer, Outcome, PLAN, POLL, RENEW, RenewRequest, SESSION, Session, TAKE, TakeAnswer, TakeRequest,
    enroll_text, request_text,
};
use dmg_protocol::job::{
    CopyJob, CopyOptions, Endpoint, FormatSpec, Job, ParquetFormat, StoreObject, StoreRef, TextFormat,
};
use dmg_protocol::{
    Attempt, Epoch, FactoryId, GatewayId, JobId, NodeId, NodeRecord, Receipt, ReceiptParties, RunId, SessionId, Signed,
    WriteMode,
};
use dmg_seal::{SigningKey, from_base64url, open_signed, sha256_hex, verify_bytes, verify_hmac};
use played::{Answered, GATEWAY, Listener, Request, hello, key_text, listen, ready};
use tokio_util::sync::CancellationToken;

const FACTORY: &str = "7a5ad6bb-9b0a-4e2f-a20a-0d7b4c0f6f11";
const PATIENCE: Duration = Duration::from_secs(30);

/// What the played service knows and what it was told.
struct Service {
    identity: SigningKey,
    node_key: Mutex<String>,
    /// Work to hand out.
    queue: Mutex<Vec<(JobGrant, Twist)>>,
    finishes: Mutex<Vec<FinishRequest>>,
    plans: AtomicU64,
    renews: AtomicU64,
    /// Renewals and plans are not answered.
    away: AtomicBool,
    /// No lease is held.
    lost: AtomicBool,
    cancel: AtomicBool,
    /// The node is cut off.
    refused: AtomicBool,
}

/// What is wrong with a grant.
#[derive(Clone, Copy, PartialEq)]
enum Twist {
    Nothing,
    OtherNode,
    OtherFactory,
    OtherCommand,
    OtherSigner,
}

impl Service {
    fn answer(self: &Arc<Self>, spki: &str, request: Request) -> Answered {
        match request.path.as_str() {
            HELLO => return ready(200, hello(&self.identity, spki, &request.body)),
            ENROLL => return self.enroll(&request.body),
            _ if self.refused.load(Ordering::SeqCst) => return ready(401, Vec::new()),
            SESSION => {
                let session = Session { session_id: SessionId::new("s"), seconds: 1200, unix_time: 0 };
                return ready(200, serde_json::to_vec(&session).unwrap());
            }
            _ => {}
        }
        let nonce: u64 = request.header("x-dmg-nonce").parse().unwrap();
        let text = request_text("POST", &request.path, &sha256_hex(&request.body), "s", nonce);
        let node_key = self.node_key.lock().unwrap().clone();
        assert!(verify_bytes(&node_key, text.as_bytes(), request.header("x-dmg-signature")), "a request is not signed");
        match request.path.as_str() {
            POLL => return self.poll(nonce),
            TAKE => return ready(200, self.take(&request.body)),
            FINISH => self.finishes.lock().unwrap().push(serde_json::from_slice(&request.body).unwrap()),
            PLAN => drop(self.plans.fetch_add(1, Ordering::SeqCst)),
            RENEW => {
                let _: RenewRequest = serde_json::from_slice(&request.body).unwrap();
                self.renews.fetch_add(1, Ordering::SeqCst);
            }
            CERTIFICATE => {}
            other => panic!("nobody asks for {other}"),
        }
        match request.path.as_str() {
            FINISH => ready(200, serde_json::to_vec(&FinishAnswer { accepted: true }).unwrap()),
            RENEW | PLAN if self.away.load(Ordering::SeqCst) => ready(503, Vec::new()),
            RENEW | PLAN => {
                let (held, cancel) = (!self.lost.load(Ordering::SeqCst), self.cancel.load(Ordering::SeqCst));
                ready(200, serde_json::to_vec(&LeaseAnswer { held, lease_seconds: 15, cancel }).unwrap())
            }
            _ => ready(200, b"{}".to_vec()),
        }
    }

    fn enroll(&self, body: &[u8]) -> Answered {
        let request: EnrollRequest = serde_json::from_slice(body).unwrap();
        let text = enroll_text(&request.gateway_id, &request.challenge, &request.node_name, &request.public_key);
        assert!(verify_hmac(&[7; 32], text.as_bytes(), &from_base64url(&request.proof).unwrap()));
        let record = NodeRecord {
            factory: "sales".into(),
            factory_id: FactoryId::new(FACTORY),
            gateway: "g".into(),
            gateway_id: GatewayId::new(GATEWAY),
            node_id: NodeId::new("n"),
            node: request.node_name,
            public_key: request.public_key.clone(),
            registered: "2026-01-01T00:00:00Z".into(),
        };
        *self.node_key.lock().unwrap() = request.public_key;
        let record = self.identity.sign("dmg-node-record/1", &record);
        ready(200, serde_json::to_vec(&Enrolled { record, certificate: None }).unwrap())
    }

    fn poll(self: &Arc<Self>, nonce: u64) -> Answered {
        let service = Arc::clone(self);
        Box::pin(async move {
            let ambient = Ambient::real();
            for _ in 0..20 {
                if !service.queue.lock().unwrap().is_empty() || service.refused.load(Ordering::SeqCst) {
                    break;
                }
                ambient.sleep(Duration::from_millis(10)).await;
            }
            let hints = Hints { work: !service.queue.lock().unwrap().is_empty(), nonce, ..Hints::default() };
            (200, serde_json::to_vec(&service.identity.sign("dmg-hints/1", &hints)).unwrap())
        })
    }

    fn take(&self, body: &[u8]) -> Vec<u8> {
        let request: TakeRequest = serde_json::from_slice(body).unwrap();
        let mut queue = self.queue.lock().unwrap();
        let grant = (!queue.is_empty()).then(|| {
            let (mut grant, twist) = queue.remove(0);
            grant.command_id = request.command_id;
            match twist {
                Twist::OtherNode => grant.node_id = NodeId::new("other"),
                Twist::OtherFactory => grant.factory_id = FactoryId::new("other"),
                Twist::OtherCommand => grant.command_id = dmg_protocol::CommandId::new("other"),
                Twist::Nothing | Twist::OtherSigner => {}
            }
            if twist == Twist::OtherSigner {
                return SigningKey::generate().sign("dmg-job/1", &grant);
            }
            self.identity.sign("dmg-job/1", &grant)
        });
        serde_json::to_vec(&TakeAnswer { grant }).unwrap()
    }
}

/// A played service, a registered node with its host, and a folder to copy in.
struct World {
    ambient: Ambient,
    service: Arc<Service>,
    _listener: Listener,
    folder: tempfile::TempDir,
    shutdown: CancellationToken,
    host: TaskGroup<Result<(), dmg_protocol::Fault>>,
}

impl World {
    /// None where the program was not built.
    async fn new() -> Option<World> {
        let worker = std::env::current_exe().unwrap().parent()?.parent()?.join("dmg");
        if !worker.is_file() {
            eprintln!("SKIPPED: {} was not built; build the package dmg first", worker.display());
            return None;
        }
        let service = Arc::new(Service {
            identity: SigningKey::generate(),
            node_key: Mutex::default(),
            queue: Mutex::default(),
            finishes: Mutex::default(),
            plans: AtomicU64::default(),
            renews: AtomicU64::default(),
            away: AtomicBool::default(),
            lost: AtomicBool::default(),
            cancel: AtomicBool::default(),
            refused: AtomicBool::default(),
        });
        let answering = Arc::clone(&service);
        let listener = listen(move |spki| Arc::new(move |request: Request| answering.answer(&spki, request))).await;
        let folder = tempfile::tempdir().unwrap();
        let ambient = Ambient::real();
        let data = folder.path().join("node");
        let key = key_text(&listener.endpoint, &service.identity);
        let registered = host::register(key.expose(), Some("n1"), &data, None, &ambient).await.unwrap();
        assert!(registered.holds_certificate && registered.made_certificate);
        std::fs::create_dir(folder.path().join("store")).unwrap();
        let rows: String = (0..20_000).map(|row| format!("{row},name {row}\n")).collect();
        std::fs::write(folder.path().join("store/in.csv"), format!("id,name\n{rows}")).unwrap();
        let mut world = World {
            ambient,
            service,
            _listener: listener,
            folder,
            shutdown: CancellationToken::new(),
            host: TaskGroup::new(),
        };
        world.start_host(&worker);
        Some(world)
    }

    fn start_host(&mut self, worker: &Path) {
        let program = WorkerProgram { path: worker.to_owned(), arguments: vec!["node".into(), "worker".into()] };
        let (data, ambient, shutdown) = (self.data(), self.ambient.clone(), self.shutdown.clone());
        self.host.spawn(async move { host::run_with(&data, program, &ambient, shutdown).await });
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("node")
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("store/out.parquet")
    }

    /// Queues the copy of the text file into a Parquet file.
    fn queue(&self, epoch: u64, twist: Twist) {
        let endpoint = |file: &str, format| {
            let serde_json::Value::Object(settings) =
                serde_json::json!({ "root": self.folder.path().join("store").to_str().unwrap() })
            else {
                unreachable!("it is an object")
            };
            Endpoint {
                store: StoreRef {
                    store: "file".into(),
                    linked_service: Some("Disk".into()),
                    settings,
                    envelope: None,
                    binding: Default::default(),
                },
                object: StoreObject::Files { folder: String::new(), file: Some(file.into()), recursive: false },
                format: Some(format),
                declared: Vec::new(),
            }
        };
        let text = TextFormat { first_row_as_header: true, ..TextFormat::default() };
        let job = CopyJob {
            parties: ReceiptParties { node: "n1".into(), ..ReceiptParties::default() },
            source: endpoint("in.csv", FormatSpec::Text(text)),
            sink: endpoint("out.parquet", FormatSpec::Parquet(ParquetFormat::default())),
            mapping: Vec::new(),
            options: CopyOptions { mode: WriteMode::Overwrite, ..CopyOptions::default() },
        };
        let run = RunId::new("11111111-2222-3333-4444-555555555555");
        let grant = JobGrant {
            job_id: JobId::new("job-1"),
            attempt: Attempt { namespace: FACTORY.into(), run, epoch: Epoch(epoch) },
            command_id: dmg_protocol::CommandId::new(""),
            node_id: NodeId::new("n"),
            factory_id: FactoryId::new(FACTORY),
            job: Job::Copy(Box::new(job)),
            earlier_plan: None,
            lease_seconds: 15,
        };
        self.service.queue.lock().unwrap().push((grant, twist));
    }

    async fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = self.ambient.uptime() + PATIENCE;
        while !condition() {
            assert!(self.ambient.uptime() < deadline, "{what} did not happen in {PATIENCE:?}");
            self.ambient.sleep(Duration::from_millis(10)).await;
        }
    }

    async fn outcome(&self) -> Outcome {
        self.until("the report of a job", || !self.service.finishes.lock().unwrap().is_empty()).await;
        let finish = self.service.finishes.lock().unwrap().remove(0);
        finish.outcome
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        self.host.join_next().await.unwrap().unwrap().unwrap();
    }
}

/// Process ids of running workers: the children of this process. Tests take turns by [`ONE`], so that the workers
/// are those of the test that asks.
fn workers() -> Vec<u32> {
    let host = std::process::id().to_string();
    let processes =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes
        .filter(|id: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
            let (state, parent) = (fields.next(), fields.next());
            parent == Some(host.as_str()) && state != Some("Z")
        })
        .collect()
}

static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn released(outcome: &Outcome, code: &str) -> bool {
    matches!(outcome, Outcome::Released { fault } if fault.code == code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_planned_committed_and_signed() {
    let _one = ONE.lock().await;
    let Some(world) = World::new().await else { return };
    world.queue(1, Twist::Nothing);
    let Outcome::Succeeded { receipt: signed } = world.outcome().await else { panic!("the copy did not succeed") };
    assert!(world.target().is_file());
    assert_eq!(world.service.plans.load(Ordering::SeqCst), 1);
    let node_key = world.service.node_key.lock().unwrap().clone();
    let receipt: Receipt = open_signed(&signed, "dmg-receipt/1", &node_key).unwrap();
    assert_eq!((receipt.read.rows, receipt.written.rows), (20_000, 20_000));
    assert!(receipt.read.digest.unwrap().algorithm.ends_with("+hmac-sha256"), "the service could guess the digest");
    let vouched: &Signed = signed.vouched.as_deref().unwrap();
    let record: NodeRecord = open_signed(vouched, "dmg-node-record/1", &world.service.identity.public_key()).unwrap();
    assert_eq!(receipt.parties.node, record.node, "the receipt names the node");
    assert_eq!(record.public_key, node_key);
    let report = host::status(&world.data()).unwrap();
    assert!(report.host_running && report.connection == Some(host::Connection::Connected));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_waits_while_the_service_is_away() {
    let _one = ONE.lock().await;
    let Some(world) = World::new().await else { return };
    world.service.away.store(true, Ordering::SeqCst);
    world.queue(1, Twist::Nothing);
    world.until("a plan that is offered again", || world.service.plans.load(Ordering::SeqCst) >= 3).await;
    assert!(!world.target().exists(), "it was committed without a lease");
    world.service.away.store(false, Ordering::SeqCst);
    assert!(matches!(world.outcome().await, Outcome::Succeeded { .. }));
    assert!(world.service.renews.load(Ordering::SeqCst) >= 1, "the commit was not asked for");
    assert!(world.target().is_file());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_worker_costs_one_attempt() {
    let _one = ONE.lock().await;
    let Some(world) = World::new().await else { return };
    world.service.away.store(true, Ordering::SeqCst);
    world.queue(1, Twist::Nothing);
    world.until("a plan", || world.service.plans.load(Ordering::SeqCst) >= 1).await;
    let [worker] = workers()[..] else { panic!("one worker was expected, {:?} run", workers()) };
    assert!(std::process::Command::new("kill").args(["-9", &worker.to_string()]).status().unwrap().success());
    let outcome = world.outcome().await;
    let Outcome::Released { fault } = &outcome else { panic!("{outcome:?}") };
    assert_eq!(fault.message, "The worker process ended with signal: 9 (SIGKILL), without a result.");
    assert!(!world.target().exists());
    world.service.away.store(false, Ordering::SeqCst);
    world.queue(2, Twist::Nothing);
    assert!(matches!(world.outcome().await, Outcome::Succeeded { .. }));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_lease_and_a_cancel_stop_before_the_commit() {
    let _one = ONE.lock().await;
    let Some(world) = World::new().await else { return };
    world.service.lost.store(true, Ordering::SeqCst);
    world.queue(1, Twist::Nothing);
    let outcome = world.outcome().await;
    assert!(released(&outcome, "SystemErrorLeaseLost"), "{outcome:?}");
    world.service.lost.store(false, Ordering::SeqCst);
    world.service.cancel.store(true, Ordering::SeqCst);
    world.queue(2, Twist::Nothing);
    let outcome = world.outcome().await;
    assert_eq!(outcome, Outcome::Cancelled);
    assert!(!world.target().exists());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_stopped_gives_its_job_back() {
    let _one = ONE.lock().await;
    let Some(world) = World::new().await else { return };
    world.service.away.store(true, Ordering::SeqCst);
    world.queue(1, Twist::Nothing);
    world.until("a plan", || world.service.plans.load(Ordering::SeqCst) >= 1).await;
    let service = Arc::clone(&world.service);
    let (data, target) = (world.data(), world.target());
    world.shutdown.cancel();
    let outcome = world.outcome().await;
    assert!(released(&outcome, "SystemErrorAborted"), "{outcome:?}");
    assert!(!target.exists() && workers().is_empty());
    assert!(service.finishes.lock().unwrap().is_empty());
    world.until("the end of the host", || !host::status(&data).unwrap().host_running).await;
    assert!(host::status(&data).unwrap().jobs.is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_grants_are_not_run() {
    let _one = ONE.lock().await;
    let Some(world) = World::new().await else { return };
    for twist in [Twist::OtherNode, Twist::OtherFactory, Twist::OtherCommand, Twist::OtherSigner] {
        world.queue(1, twist);
        world.until("a take", || world.service.queue.lock().unwrap().is_empty()).await;
    }
    // A good one after them shows that the host is still at work, and that none of them ran.
    world.queue(2, Twist::Nothing);
    assert!(matches!(world.outcome().await, Outcome::Succeeded { .. }));
    assert_eq!(world.service.plans.load(Ordering::SeqCst), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_says_so_and_comes_back_when_registered_again() {
    let _one = ONE.lock().await;
    let Some(world) = World::new().await else { return };
    world.service.away.store(true, Ordering::SeqCst);
    world.queue(1, Twist::Nothing);
    world.until("a plan", || world.service.plans.load(Ordering::SeqCst) >= 1).await;
    let cut = world.ambient.uptime();
    world.service.refused.store(true, Ordering::SeqCst);
    let refused = || matches!(host::status(&world.data()).unwrap().connection, Some(host::Connection::Refused { .. }));
    world.until("the node's refusal", refused).await;
    assert!(workers().is_empty(), "a worker goes on without a node");
    assert!(world.ambient.uptime() - cut < Duration::from_secs(5), "a node is cut off within five seconds");
    assert!(!world.target().exists());
    let Some(host::Connection::Refused { reason }) = host::status(&world.data()).unwrap().connection else {
        panic!("the refusal was taken back")
    };
    assert_eq!(reason, "Gateway is not registered. Gateway key is invalid.");

    world.service.refused.store(false, Ordering::SeqCst);
    world.service.away.store(false, Ordering::SeqCst);
    let key = key_text(&world._listener.endpoint, &world.service.identity);
    let again = host::register(key.expose(), Some("n1"), &world.data(), None, &world.ambient).await.unwrap();
    assert!(again.holds_certificate && !again.made_certificate, "the certificate was kept");
    world.queue(2, Twist::Nothing);
    assert!(matches!(world.outcome().await, Outcome::Succeeded { .. }));
    world.stop().await;
}
