//! A service of its own for each test, a client of its public API, and a node that speaks the channel and does no
//! work: it stands for the host, which is tested with the real service in `tests/system`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use dmg_ambient::{Ambient, TaskGroup};
use dmg_control::{ServiceConfig, build};
use dmg_protocol::channel::{
    CERTIFICATE, CertificateRequest, ENROLL, EnrollRequest, Enrolled, FINISH, FinishAnswer, FinishRequest,
    HEADER_NONCE, HEADER_SESSION, HEADER_SIGNATURE, HELLO, Hello, HelloRequest, Hints, JobGrant, LeaseAnswer,
    NodeStatus, Outcome, POLL, PollRequest, RENEW, RenewRequest, SESSION, Session, SessionRequest, TAKE, TakeAnswer,
    TakeRequest, enroll_text, request_text, session_text,
};
use dmg_protocol::{
    CommandId, CommitShape, Fault, Kind, NodeRecord, Receipt, ReceiptColumn, ReceiptParties, SideReport, Signed,
    StageTime, Verdict, VerifyLevel, WriteMode,
};
use dmg_seal::{
    CredentialKey, GatewayKey, SigningKey, base64url, hmac_sha256, open_signed, parse_key, random_bytes, sha256_hex,
};
use reqwest::{Client, Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub const PATIENCE: Duration = Duration::from_secs(30);
pub const GROUP: &str = "/subscriptions/sub1/resourceGroups/rg1/providers/Microsoft.DataFactory";
pub const V1: &str = "2015-10-01";
pub const V2: &str = "2018-06-01";
pub const OURS: &str = "2026-11-01";

/// A running service.
pub struct World {
    pub client: Client,
    pub address: SocketAddr,
    pub token: String,
    pub data: PathBuf,
    pub ambient: Ambient,
    stop: CancellationToken,
    tasks: TaskGroup<Result<(), Fault>>,
    folder: Option<tempfile::TempDir>,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl World {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("service");
        Self::start_in(data, SocketAddr::from(([127, 0, 0, 1], 0)), Some(folder)).await
    }

    async fn start_in(data: PathBuf, listen: SocketAddr, folder: Option<tempfile::TempDir>) -> Self {
        // Tests of one process may have done it before.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let ambient = Ambient::real();
        let server = build(ServiceConfig::new(&data, listen), &ambient).await.unwrap();
        let address = server.address().unwrap();
        let token = std::fs::read_to_string(server.token_file()).unwrap().trim().to_owned();
        let pem = std::fs::read(server.certificate_file()).unwrap();
        let client = Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&pem).unwrap()])
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .unwrap();
        let stop = CancellationToken::new();
        let mut tasks = TaskGroup::new();
        tasks.spawn(server.run(stop.clone()));
        World { client, address, token, data, ambient, stop, tasks, folder }
    }

    /// Stops the service and starts it again over the same folder and port.
    pub async fn restart(mut self) -> Self {
        self.stop.cancel();
        self.tasks.join_next().await.unwrap().unwrap().unwrap();
        let folder = self.folder.take();
        Self::start_in(self.data.clone(), self.address, folder).await
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    pub async fn send(&self, method: Method, path: &str, version: &str, body: Option<&Value>) -> Answer {
        self.send_with(method, path, version, body, &[]).await
    }

    pub async fn send_with(
        &self,
        method: Method,
        path: &str,
        version: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let joint = if path.contains('?') { '&' } else { '?' };
        let url = self.url(&format!("{path}{joint}api-version={version}"));
        let mut request = self.client.request(method, url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await.unwrap();
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        Answer { status, headers, body }
    }

    /// A call that must succeed.
    pub async fn good(&self, method: Method, path: &str, version: &str, body: Option<Value>) -> Value {
        let answer = self.send(method, path, version, body.as_ref()).await;
        assert!(answer.status.is_success(), "{path}: {} {}", answer.status, answer.body);
        answer.body
    }

    /// A factory with a gateway, and a node of it that holds the certificate.
    pub async fn furnished(&self) -> Node<'_> {
        self.good(Method::PUT, &format!("{GROUP}/factories/sales"), V2, Some(json!({"location": "here"}))).await;
        self.runtime("gw1").await;
        self.node("gw1", "node1").await
    }

    pub async fn runtime(&self, name: &str) {
        let body = json!({"properties": {"type": "SelfHosted", "description": "d"}});
        self.good(Method::PUT, &format!("{GROUP}/factories/sales/integrationRuntimes/{name}"), V2, Some(body)).await;
    }

    pub async fn node(&self, gateway: &str, name: &str) -> Node<'_> {
        let path = format!("{GROUP}/factories/sales/integrationRuntimes/{gateway}/listAuthKeys");
        let keys = self.good(Method::POST, &path, V2, None).await;
        Node::register(self, keys["authKey1"].as_str().unwrap(), name).await.unwrap()
    }

    /// Asks until an answer is as wanted.
    pub async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = self.ambient.uptime() + PATIENCE;
        loop {
            let body = self.good(Method::GET, path, V2, None).await;
            if wanted(&body) {
                return body;
            }
            assert!(self.ambient.uptime() < deadline, "{path} stays {body}");
            self.ambient.sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A node that speaks the channel.
pub struct Node<'a> {
    pub world: &'a World,
    pub record: NodeRecord,
    pub signed_record: Signed,
    pub identity: SigningKey,
    pub credential_key: CredentialKey,
    pub holds: bool,
    service_key: String,
    session: String,
    nonce: u64,
}

impl<'a> Node<'a> {
    pub async fn register(world: &'a World, key_text: &str, name: &str) -> Result<Self, (StatusCode, Fault)> {
        let key: GatewayKey = parse_key(key_text).unwrap();
        let (service_key, challenge) = hello(world).await;
        assert!(key.names_identity(&service_key));
        let identity = SigningKey::generate();
        let public_key = identity.public_key();
        let text = enroll_text(&key.gateway_id, &challenge, name, &public_key);
        let request = EnrollRequest {
            gateway_id: key.gateway_id.clone(),
            challenge,
            node_name: name.to_owned(),
            machine_name: "MACHINE-1".to_owned(),
            public_key,
            program: "dmg/0.0.1".to_owned(),
            proof: base64url(&hmac_sha256(key.secret.expose(), text.as_bytes())),
        };
        let enrolled: Enrolled = post(world, ENROLL, &request, &[]).await?;
        let record: NodeRecord = open_signed(&enrolled.record, "dmg-node-record/1", &service_key).unwrap();
        let mut node = Node {
            world,
            record,
            signed_record: enrolled.record,
            identity,
            credential_key: CredentialKey::generate("test"),
            holds: enrolled.certificate.is_none(),
            service_key,
            session: String::new(),
            nonce: 0,
        };
        node.open().await?;
        if node.holds {
            let request = CertificateRequest { certificate: node.credential_key.certificate_pem(), replace: false };
            node.call::<Value>(CERTIFICATE, &request).await?;
        }
        node.poll(0).await?;
        Ok(node)
    }

    pub async fn open(&mut self) -> Result<(), (StatusCode, Fault)> {
        let (_, challenge) = hello(self.world).await;
        let text = session_text(&self.record.node_id, &challenge);
        let request = SessionRequest {
            node_id: self.record.node_id.clone(),
            challenge,
            signature: self.identity.sign_bytes(text.as_bytes()),
            program: "dmg/0.0.1".to_owned(),
        };
        let session: Session = post(self.world, SESSION, &request, &[]).await?;
        self.session = session.session_id.to_string();
        self.nonce = 0;
        Ok(())
    }

    /// Continues as a node that registered before.
    pub async fn becomes(mut self, record: NodeRecord, identity: SigningKey, key: CredentialKey) -> Self {
        (self.record, self.identity, self.credential_key, self.holds) = (record, identity, key, true);
        self.open().await.unwrap();
        self.poll(0).await.unwrap();
        self
    }

    /// The headers of the next signed request.
    pub fn sign(&mut self, path: &str, body: &[u8]) -> Vec<(&'static str, String)> {
        self.nonce += 1;
        let text = request_text("POST", path, &sha256_hex(body), &self.session, self.nonce);
        vec![
            (HEADER_SESSION, self.session.clone()),
            (HEADER_NONCE, self.nonce.to_string()),
            (HEADER_SIGNATURE, self.identity.sign_bytes(text.as_bytes())),
        ]
    }

    pub async fn call<A: DeserializeOwned>(
        &mut self,
        path: &str,
        request: &impl Serialize,
    ) -> Result<A, (StatusCode, Fault)> {
        let body = serde_json::to_vec(request).unwrap();
        let headers = self.sign(path, &body);
        post_bytes(self.world, path, body, &headers).await
    }

    pub async fn poll(&mut self, wait_seconds: u64) -> Result<Hints, (StatusCode, Fault)> {
        self.poll_with(wait_seconds, Vec::new()).await
    }

    pub async fn poll_with(
        &mut self,
        wait_seconds: u64,
        running: Vec<dmg_protocol::JobId>,
    ) -> Result<Hints, (StatusCode, Fault)> {
        let status = NodeStatus {
            running,
            concurrent_jobs_limit: 2,
            max_concurrent_jobs: 4,
            available_memory_mib: 1000,
            holds_certificate: self.holds,
            certificate_thumbprint: self.holds.then(|| self.credential_key.certificate().thumbprint().to_owned()),
            program: "dmg/0.0.1".to_owned(),
            ..NodeStatus::default()
        };
        let signed: Signed = self.call(POLL, &PollRequest { status, wait_seconds }).await?;
        let hints: Hints = open_signed(&signed, "dmg-hints/1", &self.service_key).unwrap();
        assert_eq!(hints.nonce, self.nonce);
        Ok(hints)
    }

    pub async fn take(&mut self) -> Option<JobGrant> {
        let command = CommandId::new(self.world.ambient.uuid());
        self.take_as(command).await
    }

    pub async fn take_as(&mut self, command_id: CommandId) -> Option<JobGrant> {
        let answer: TakeAnswer = self.call(TAKE, &TakeRequest { command_id }).await.unwrap();
        answer.grant.map(|signed| open_signed(&signed, "dmg-job/1", &self.service_key).unwrap())
    }

    /// Polls until there is work and takes it.
    pub async fn work(&mut self) -> JobGrant {
        let deadline = self.world.ambient.uptime() + PATIENCE;
        loop {
            if self.poll(1).await.unwrap().work
                && let Some(grant) = self.take().await
            {
                return grant;
            }
            assert!(self.world.ambient.uptime() < deadline, "no work came");
        }
    }

    pub async fn renew(&mut self, grant: &JobGrant) -> LeaseAnswer {
        let request = RenewRequest { job_id: grant.job_id.clone(), epoch: grant.attempt.epoch, progress: None };
        self.call(RENEW, &request).await.unwrap()
    }

    pub async fn finish(&mut self, grant: &JobGrant, outcome: Outcome) -> bool {
        let request =
            FinishRequest { job_id: grant.job_id.clone(), epoch: grant.attempt.epoch, outcome, progress: None };
        self.call::<FinishAnswer>(FINISH, &request).await.unwrap().accepted
    }

    /// A receipt as a host signs it.
    pub fn receipt(&self, grant: &JobGrant) -> Signed {
        let side = SideReport { rows: 3, bytes: 2048, files: 1, peak_connections: 2, digest: None };
        let column = ReceiptColumn {
            source: "a".into(),
            sink: "a".into(),
            kind: Kind::Text,
            source_type: "TEXT".into(),
            sink_type: "STRING".into(),
            verdict: Verdict::Exact,
        };
        let receipt = Receipt {
            version: 1,
            attempt: grant.attempt.clone(),
            parties: ReceiptParties::default(),
            program: "dmg/0.0.1".into(),
            source: "a".into(),
            target: "b".into(),
            started: "2026-01-01T00:00:00Z".into(),
            ended: "2026-01-01T00:00:02Z".into(),
            columns: vec![column],
            read: side.clone(),
            written: side,
            verify: VerifyLevel::Transferred,
            evidence: "stagedReadBack".into(),
            mode: WriteMode::Overwrite,
            shape: CommitShape::Rename,
            mark: "m".into(),
            found_committed: false,
            restarted: None,
            resumed: None,
            repeated: None,
            stages: vec![StageTime { stage: "move".into(), seconds: 2.0 }],
            bottleneck: dmg_protocol::Bottleneck::default(),
            skipped: None,
            notices: Vec::new(),
        };
        let mut signed = self.identity.sign("dmg-receipt/1", &receipt);
        signed.vouched = Some(Box::new(self.signed_record.clone()));
        signed
    }
}

async fn hello(world: &World) -> (String, String) {
    let nonce = base64url(&random_bytes::<32>());
    let request = HelloRequest { nonce: nonce.clone(), versions: vec![1] };
    let signed: Signed = post(world, HELLO, &request, &[]).await.unwrap();
    let key = signed.signature.public_key.clone();
    let hello: Hello = open_signed(&signed, "dmg-hello/1", &key).unwrap();
    assert_eq!(hello.nonce, nonce);
    (key, hello.challenge)
}

pub async fn post<A: DeserializeOwned>(
    world: &World,
    path: &str,
    request: &impl Serialize,
    headers: &[(&'static str, String)],
) -> Result<A, (StatusCode, Fault)> {
    post_bytes(world, path, serde_json::to_vec(request).unwrap(), headers).await
}

pub async fn post_bytes<A: DeserializeOwned>(
    world: &World,
    path: &str,
    body: Vec<u8>,
    headers: &[(&'static str, String)],
) -> Result<A, (StatusCode, Fault)> {
    let mut request = world.client.post(world.url(path)).body(body);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let response = request.send().await.unwrap();
    let status = response.status();
    let bytes = response.bytes().await.unwrap();
    if status.is_success() {
        return Ok(serde_json::from_slice(&bytes).unwrap());
    }
    Err((status, serde_json::from_slice(&bytes).unwrap()))
}

/// What differs from run to run, replaced by what it is.
pub fn scrub(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(scrub_text(text)),
        Value::Array(items) => items.iter().map(scrub).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| match name.as_str() {
                "publicKey" | "certificate" | "encryptedCredential" | "durationInMs" if !value.is_null() => {
                    (name.clone(), Value::String(format!("[{name}]")))
                }
                _ => (name.clone(), scrub(value)),
            })
            .collect(),
        other => other.clone(),
    }
}

fn scrub_text(text: &str) -> String {
    for start in ["IR@", "ADF#", "DMG@"] {
        if text.starts_with(start) {
            assert!(parse_key(text).is_ok(), "{text}");
            return format!("{start}[key]");
        }
    }
    if let Some((plain, _)) = text.split_once("EncryptedCredential=") {
        return format!("{plain}EncryptedCredential=[envelope]");
    }
    if text.len() > 60 && !text.contains(' ') && !text.contains('/') && !text.contains(';') {
        return "[long]".to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = String::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let hex =
            |from: usize, to: usize| rest.get(from..to).is_some_and(|part| part.bytes().all(|b| b.is_ascii_hexdigit()));
        let dash = |place: usize| rest.as_bytes().get(place) == Some(&b'-');
        if hex(0, 8)
            && dash(8)
            && hex(9, 13)
            && dash(13)
            && hex(14, 18)
            && dash(18)
            && hex(19, 23)
            && dash(23)
            && hex(24, 36)
        {
            out.push_str("[id]");
            at += 36;
        } else if rest.len() >= 27
            && rest.as_bytes()[..4].iter().all(u8::is_ascii_digit)
            && rest.as_bytes()[10] == b'T'
            && rest.as_bytes()[26] == b'Z'
            && rest.is_char_boundary(27)
        {
            out.push_str("[time]");
            at += 27;
        } else if let Some(port) = rest.strip_prefix("localhost:") {
            let digits = port.bytes().take_while(u8::is_ascii_digit).count();
            out.push_str("localhost:[port]");
            at += "localhost:".len() + digits;
        } else {
            let next = rest.chars().next().unwrap();
            out.push(next);
            at += next.len_utf8();
        }
    }
    out
}

/// Status and body, as snapshots hold them.
pub fn shown(answer: &Answer) -> String {
    let body = scrub(&answer.body);
    format!("{}\n{}", answer.status.as_u16(), serde_json::to_string_pretty(&body).unwrap())
}
