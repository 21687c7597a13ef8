//! A server that speaks TDS 7.4 and strict TDS 8 with rows kept in SQLite, for tests of what talks to SQL Server. It is no
//! SQL Server: it proves agreement with our reading of the published protocol, checked by foreign clients.

mod bulk;
mod connection;
mod errors;
mod fault;
pub mod fuzz;
mod login;
mod ntlm;
mod out;
mod procedures;
mod read;
mod rpc;
mod server;
mod session;
mod sql;
mod tls;
mod transport;
mod types;
mod value;
mod wire_value;

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;

pub use errors::SqlError;
pub use fault::{Armed, Fault};
pub use out::Column;
pub use procedures::{Argument, Call, Procedure};
pub use read::WireError;
pub use types::{Collation, MAX, Type};
pub use value::Value;

/// What the server asks of a connection before TDS 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Encryption {
    /// There is none.
    NotSupported,
    /// As the client likes: nothing, the log-in alone, or everything.
    #[default]
    Optional,
    /// Everything.
    Required,
}

/// How a fixture is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// The one login.
    pub login: String,
    /// Its password.
    pub password: String,
    /// The Entra token that is taken instead.
    pub token: String,
    /// The account of Windows that is let in, as `DOMAIN\user`, and its password.
    pub windows: Option<(String, String)>,
    /// Databases beside the server's own.
    pub databases: Vec<String>,
    /// Encryption before TDS 8.
    pub encryption: Encryption,
    /// Only TDS 8 is spoken: TLS comes first.
    pub strict_only: bool,
    /// The largest packet the server agrees to.
    pub packet_bytes_max: u16,
    /// Faults from the start.
    pub faults: Vec<Armed>,
    /// The `EngineEdition` it says it is: 3 a server of one's own, 5 Azure SQL Database, 6 Synapse.
    pub engine_edition: i64,
    /// Port; 0 takes a free one.
    pub port: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            login: "sa".into(),
            password: "Fixture-Password-1".into(),
            token: "fixture-token".into(),
            windows: None,
            databases: vec!["fixture".into()],
            encryption: Encryption::default(),
            strict_only: false,
            packet_bytes_max: 32_767,
            faults: Vec::new(),
            engine_edition: 3,
            port: 0,
        }
    }
}

/// A running server; it ends when dropped.
pub struct Fixture {
    /// The port on the loopback interface.
    pub port: u16,
    /// The certificate, in PEM, which is its own authority; made out to `localhost` and 127.0.0.1.
    pub certificate: String,
    server: Arc<server::Server>,
    accepting: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Fixture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fixture on port {}", self.port)
    }
}

impl Fixture {
    /// Starts a server on the loopback interface.
    pub fn start(options: Options) -> io::Result<Self> {
        let (certificate, plain, strict) = tls::make()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
        let port = listener.local_addr()?.port();
        let server = Arc::new(server::Server::new(options, plain, strict)?);
        let accepting = std::thread::Builder::new().name("tds-accept".into()).spawn({
            let server = server.clone();
            move || accept(&listener, &server)
        })?;
        Ok(Self { port, certificate, server, accepting: Some(accepting) })
    }

    /// Makes something go wrong.
    pub fn fault(&self, armed: Armed) {
        self.server.arm(armed);
    }

    /// Takes back what has not gone wrong yet.
    pub fn clear_faults(&self) {
        self.server.disarm();
    }

    /// Makes a procedure that a client may call.
    pub fn procedure(&self, name: &str, body: impl Fn(&mut Call) -> Result<(), SqlError> + Send + Sync + 'static) {
        self.server.register(name, Arc::new(body));
    }

    /// The texts of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.server.log.lock().expect("no holder of this lock can panic").clone()
    }

    /// How many clients are logged in or about to be.
    pub fn sessions(&self) -> usize {
        self.server.sessions.lock().expect("no holder of this lock can panic").len()
    }

    /// How many sessions ended by a mistake of this server's own. A test that provokes it asks for none.
    pub fn panics(&self) -> u32 {
        self.server.panics.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Breaks every connection, as a server that dies would.
    pub fn cut_all(&self) {
        // The lock is let go before the loop: ending a session takes it again.
        let ids: Vec<i32> =
            self.server.sessions.lock().expect("no holder of this lock can panic").keys().copied().collect();
        for id in ids {
            let _ = self.server.kill(0, id);
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.server.stop();
        // The accepting thread wakes up by one last connection.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn accept(listener: &TcpListener, server: &Arc<server::Server>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for tcp in listener.incoming() {
        if server.stopping.load(std::sync::atomic::Ordering::Relaxed) {
            break;
        }
        let Ok(tcp) = tcp else { continue };
        threads.retain(|thread| !thread.is_finished());
        let server = server.clone();
        let spawned = std::thread::Builder::new()
            .name("tds-session".into())
            .stack_size(16 << 20)
            .spawn(move || connection::serve(tcp, &server));
        threads.extend(spawned);
    }
    for thread in threads {
        let _ = thread.join();
    }
}
