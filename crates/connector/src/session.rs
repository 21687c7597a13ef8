//! What a connector gets from outside when it opens a connection, and what it counts while it works.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use dmg_ambient::Ambient;
use tokio::net::TcpStream;

/// The seam through which everything leaves a node, and who is asking.
#[derive(Clone)]
pub struct Session {
    /// Clock and chance.
    pub ambient: Ambient,
    /// Application name of database sessions: `dmg/<run>/<epoch>` while a copy runs, `dmg/probe` otherwise.
    pub application: String,
    /// PEM of certificate authorities trusted besides the system's.
    pub extra_ca: Arc<Vec<Vec<u8>>>,
}

impl Session {
    /// A session of that application name.
    pub fn new(ambient: Ambient, application: impl Into<String>) -> Self {
        Session { ambient, application: application.into(), extra_ca: Arc::default() }
    }

    /// Opens a TCP connection. Direct now; proxies join here. Nothing else in the data path opens one.
    pub async fn connect(&self, host: &str, port: u16) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Counters of one side of a copy, shared by all its connections.
#[derive(Debug, Default)]
pub struct Traffic {
    bytes: AtomicU64,
    open: AtomicU32,
    peak: AtomicU32,
}

impl Traffic {
    /// Adds bytes as the store counts them.
    pub fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// A stream starts being active.
    pub fn opened(&self) {
        let now = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(now, Ordering::Relaxed);
    }

    /// A stream is no longer active.
    pub fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Streams active now.
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Most streams active at once.
    pub fn peak(&self) -> u32 {
        self.peak.load(Ordering::Relaxed)
    }
}
