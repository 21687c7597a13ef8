//! Log-ins to SQL Server with an account of Windows. The other side is the TDS fixture, whose acceptor foreign clients
//! proved; and, for what binds the proof to its connection, OpenSSL and pyspnego.
#![expect(clippy::print_stderr, reason = "what is skipped and what a judge says belongs to the test's output")]

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use dmg_ambient::Ambient;
use dmg_connector::Session;
use dmg_connector::conformance::TableWorld as _;
use dmg_protocol::{Secret, Secrets, WriteMode};
use dmg_tds_fixture::{Armed, Encryption, Fault, Fixture, Options};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::sql_server_support::SqlServer;
use crate::support::{copy, request, table};

const RUN: &str = "1f0d7c46-7f0e-4b43-9a65-6a3c0d1f4d10";
const ACCOUNT: &str = "CORP\\etl";
const PASSWORD: &str = "Grüße-Windows-1";

async fn server(options: Options) -> SqlServer {
    SqlServer::with(Options { windows: Some((ACCOUNT.into(), PASSWORD.into())), ..options }).await
}

fn secrets(password: &str) -> Secrets {
    [("password".to_owned(), Secret::new(password.to_owned()))].into_iter().collect()
}

/// What a probe by Windows says, with this authority trusted besides the system's.
async fn probe_with(port: u16, more: Value, password: &str, authority: Option<&str>) -> String {
    let settings = json!({ "host": "127.0.0.1", "port": port, "database": "sales", "trustServerCertificate": "true",
        "authenticationType": "Windows", "user": ACCOUNT });
    let mut settings = settings.as_object().expect("an object").clone();
    settings.extend(more.as_object().expect("an object").clone());
    let mut session = Session::new(Ambient::real(), "dmg/probe");
    session.extra_ca = Arc::new(authority.map(|pem| pem.as_bytes().to_vec()).into_iter().collect());
    let store = dmg_tables::store("sqlserver").expect("is in the list");
    match store.open(&settings, &secrets(password), session).await {
        Ok(connection) => match connection.probe().await {
            Ok(answer) => answer,
            Err(error) => error.fault.to_string(),
        },
        Err(error) => error.fault.to_string(),
    }
}

async fn probe(server: &SqlServer, more: Value, password: &str) -> String {
    probe_with(server.fixture.port, more, password, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_of_windows_logs_in_over_every_kind_of_encryption() {
    for encryption in [Encryption::NotSupported, Encryption::Optional, Encryption::Required] {
        let windows = Some((ACCOUNT.into(), PASSWORD.into()));
        let options = Options { encryption, windows, databases: vec!["sales".into()], ..Options::default() };
        let fixture = Fixture::start(options).expect("the fixture starts");
        let asked = |text: &str| fixture.requests().iter().filter(|request| request.contains(text)).count();
        for encrypt in ["optional", "mandatory", "strict"] {
            let answer = probe_with(fixture.port, json!({ "encrypt": encrypt }), PASSWORD, None).await;
            if encryption == Encryption::NotSupported && encrypt == "mandatory" {
                assert!(answer.starts_with("NetworkErrorTls") && answer.contains("encrypt=optional"), "{answer}");
                continue;
            }
            assert!(answer.starts_with("SQL Server "), "{encryption:?} {encrypt}: {answer}");
            let bound = encrypt == "mandatory" || (encrypt == "optional" && encryption != Encryption::NotSupported);
            let meant = format!("windows: sealed true bound {bound} MSSQLSvc/127.0.0.1:{}", fixture.port);
            assert!(asked(&meant) > 0, "{encryption:?} {encrypt}: {:?}", fixture.requests());
        }
        assert!(asked("login CORP\\etl sales dmg/probe") >= 2);
        assert_eq!(fixture.panics(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_taken_as_windows_takes_them_and_others_are_refused() {
    let server = server(Options::default()).await;
    for user in ["CORP\\etl", "corp\\ETL", "etl@corp.example"] {
        let answer = probe(&server, json!({ "user": user }), PASSWORD).await;
        assert!(answer.starts_with("SQL Server "), "{user}: {answer}");
    }
    for (user, password, why) in [
        (ACCOUNT, "Grüße-Windows-2", "a wrong proof"),
        ("OTHER\\etl", PASSWORD, "another account"),
        ("etl", PASSWORD, "another account"),
        ("CORP\\sa", PASSWORD, "another account"),
    ] {
        let before = server.asked("windows: ");
        let answer = probe(&server, json!({ "user": user }), password).await;
        assert!(answer.starts_with("UserErrorLoginRefused"), "{user}: {answer}");
        assert!(answer.contains("untrusted domain") && answer.contains("DOMAIN\\user"), "{user}: {answer}");
        assert!(!answer.contains(password), "{answer}");
        assert_eq!(server.asked("windows: "), before + 1, "one try: the domain counts them and locks the account");
        assert!(server.asked(&format!("windows: {why}")) > 0, "{user}: {:?}", server.fixture.requests());
    }
    // Without a password nothing is tried.
    let before = server.asked("windows: ");
    let settings = server.settings_with(json!({ "authenticationType": "Windows", "user": ACCOUNT }));
    let store = dmg_tables::store("sqlserver").expect("is in the list");
    let connection = store.open(&settings, &Secrets::none(), Session::new(Ambient::real(), "dmg/probe")).await;
    let refused = connection.expect("settings are checked without secrets").probe().await.expect_err("no password");
    assert_eq!((refused.fault.code.as_str(), server.asked("windows: ")), ("UserErrorNotSupported", before));
    // The log-in of the server's own goes on as it did.
    let own = server.open(server.settings(), "dmg/own").await.expect("opens").probe().await.expect("logs in");
    assert!(own.starts_with("SQL Server "), "{own}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_trusted_gets_no_proof() {
    let server = server(Options::default()).await;
    let answer = probe(&server, json!({ "trustServerCertificate": "false" }), PASSWORD).await;
    assert!(answer.starts_with("NetworkErrorTls"), "{answer}");
    assert_eq!(server.asked("windows: "), 0, "nothing was proved to it");
    // The authority it is signed by, and the name it is made out to.
    for (name, expected) in [("localhost", "taken as"), ("db01.corp.lan", "NetworkErrorTls")] {
        let Some((mut judge, port, authority)) = judge("wrapped", "1.2", SHORT) else { return };
        let settings = json!({ "trustServerCertificate": "false", "hostNameInCertificate": name });
        let said = probe_with(port, settings, PASSWORD, Some(&authority)).await;
        assert!(said.contains(expected), "{name}: {said}");
        assert_eq!(judge.wait().expect("the judge ends").success(), name == "localhost");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_by_windows_is_whole_and_follows_a_redirect() {
    let (front, back) = (server(Options::default()).await, server(Options::default()).await);
    back.make("src", 20_000).await;
    back.run("CREATE TABLE dst (id bigint NOT NULL, name nvarchar(400) NULL)").await;
    let fault = Fault::Redirect("127.0.0.1".into(), back.fixture.port);
    front.fixture.fault(Armed { times: 1000, ..Armed::next(fault) });
    let settings = front.settings_with(json!({ "authenticationType": "Windows", "user": ACCOUNT }));
    let store = dmg_tables::store("sqlserver").expect("is in the list");
    let open = |application: &str| store.open(&settings, &SECRETS, Session::new(Ambient::real(), application));
    let connection = open("dmg/test").await.expect("opens");
    let source = connection.source(&table("src"), 2, 5000).await.expect("opens");
    let request = request(RUN, 1, "dst", WriteMode::Append);
    let writing = open(&request.attempt.session_name()).await.expect("opens");
    let mut sink = writing.sink(request).await.expect("opens");
    copy(source.as_ref(), sink.as_mut()).await.expect("copies");
    front.fixture.clear_faults();
    assert_eq!(back.value("SELECT COUNT(*) FROM dst").await, "20000");
    let port = back.fixture.port;
    assert!(back.asked(&format!("MSSQLSvc/127.0.0.1:{port}")) > 0, "the proof is meant for who it was sent on to");
}

static SECRETS: std::sync::LazyLock<Secrets> = std::sync::LazyLock::new(|| secrets(PASSWORD));

const SHORT: &str = "ECDHE-ECDSA-AES128-GCM-SHA256";
const LONG: &str = "ECDHE-ECDSA-AES256-GCM-SHA384";

/// OpenSSL and pyspnego as a server of one log-in: its port, and the certificate that is its own authority.
fn judge(mode: &str, version: &str, cipher: &str) -> Option<(Child, u16, String)> {
    let Some(python) = dmg_ambient::environment("DMG_TEST_PYTHON") else {
        eprintln!("SKIPPED: DMG_TEST_PYTHON is not set, so no foreign acceptor judges log-ins by Windows");
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/judge/windows_log_in.py");
    let arguments = [mode, version, cipher, ACCOUNT, PASSWORD];
    let mut judge =
        Command::new(python).arg(script).args(arguments).stdout(Stdio::piped()).spawn().expect("Python starts");
    let mut said = String::new();
    judge.stdout.take().expect("piped").read_to_string(&mut said).expect("text");
    let (port, certificate) = said.split_once('\n').expect("the judge says its port and its certificate");
    Some((judge, port.trim().parse().expect("a port"), certificate.to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_and_pyspnego_take_the_proof_and_find_it_bound_to_its_connection() {
    for (mode, version, cipher, encrypt, bound) in [
        ("wrapped", "1.2", SHORT, "mandatory", "tls-unique"),
        ("wrapped", "1.2", LONG, "mandatory", "tls-unique"),
        ("wrapped", "1.2", LONG, "optional", "tls-unique"),
        ("strict", "1.2", LONG, "strict", "tls-unique"),
        ("strict", "1.3", "", "strict", "nothing"),
        ("none", "1.2", SHORT, "optional", "nothing"),
    ] {
        let Some((mut judge, port, _)) = judge(mode, version, cipher) else { return };
        let said = probe_with(port, json!({ "encrypt": encrypt }), PASSWORD, None).await;
        let ended = judge.wait().expect("the judge ends");
        let expected =
            format!("taken as {ACCOUNT}, bound to {bound}, sealed True, meant for MSSQLSvc/127.0.0.1:{port}");
        assert!(said.contains(&expected), "{mode} {version} {cipher}: {said}");
        assert!(ended.success(), "{mode} {version} {cipher}");
    }
    // The judge refuses what is not right.
    let Some((mut judge, port, _)) = judge("wrapped", "1.2", LONG) else { return };
    let said = probe_with(port, json!({}), "Grüße-Windows-2", None).await;
    assert!(said.contains("not taken") && judge.wait().expect("the judge ends").success(), "{said}");
}

/// Answers one log-in without encryption: these bytes to the pre-login, those to the log-in.
async fn hostile(prelogin: Vec<u8>, login: Vec<u8>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let serve = async {
        let (mut client, _) = listener.accept().await.expect("a client");
        let mut heard = [0; 4096];
        for answer in [prelogin, login] {
            let _ = client.read(&mut heard).await;
            let _ = client.write_all(&answer).await;
        }
    };
    tokio::join!(serve, probe_with(port, json!({ "encrypt": "optional" }), PASSWORD, None)).1
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_answers_instead_is_told_apart() {
    let packet = |kind: u8, last: u8, content: &[u8]| {
        let length = (content.len() + 8) as u16;
        [&[kind, last][..], &length.to_be_bytes(), &[0, 0, 1, 0], content].concat()
    };
    let token = |content: &[u8]| [&[0xED][..], &(content.len() as u16).to_le_bytes(), content].concat();
    let clear = packet(4, 1, &[1, 0, 6, 0, 1, 0xFF, 2]);
    let spnego = [0xA1, 7, 0x30, 5, 0xA0, 3, 0x0A, 1, 0];
    for (what, prelogin, login, expected) in [
        ("Kerberos", &clear, packet(4, 1, &token(&spnego)), "UserErrorNotSupported"),
        ("half a question", &clear, packet(4, 1, &token(b"NTLMSSP\0\x02\0\0\0")), "StoreErrorAnswer"),
        ("a token longer than it is", &clear, packet(4, 1, &[0xED, 0xFF, 0xFF, 1]), "StoreErrorAnswer"),
        ("another packet", &clear, packet(1, 1, &token(&spnego)), "StoreErrorAnswer"),
        ("a packet of less than nothing", &clear, vec![4, 1, 0, 3, 0, 0, 0, 0], "StoreErrorAnswer"),
        ("no end", &clear, packet(4, 0, &[0; 30_000]).repeat(6), "StoreErrorAnswer"),
        ("silence", &clear, Vec::new(), "NetworkErrorStoreUnreachable"),
        (
            "no word of encryption",
            &packet(4, 1, &[0, 0, 6, 0, 6, 0xFF, 0, 0, 0, 0, 0, 0]),
            Vec::new(),
            "StoreErrorAnswer",
        ),
        ("encryption that is not there", &packet(4, 1, &[1, 0xFF, 0xFF, 0, 1, 0xFF]), Vec::new(), "StoreErrorAnswer"),
        (
            "TLS that is none",
            &packet(4, 1, &[1, 0, 6, 0, 1, 0xFF, 1]),
            vec![4, 1, 0, 9, 0, 0, 0, 0, 7],
            "NetworkErrorTls",
        ),
    ] {
        let said = hostile(prelogin.clone(), login).await;
        assert!(said.starts_with(expected), "{what}: {said}");
        assert!(what != "Kerberos" || said.contains("Kerberos"), "{said}");
    }
}
