//! What a connector gets from outside when it opens a connection, and what it counts while it works.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use dmg_ambient::Ambient;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// A peer that has gone without a word while we listen to it is missed after so long. A peer that is there and only says
/// nothing, or takes nothing, is the watchdog's business: the system must not end that connection, so it gets no time
/// limit for what is sent, which would count a server's pause of half a minute as its absence.
const SILENCE: Duration = Duration::from_secs(30);
/// Pause before the peer is asked whether it is there, and between two such questions.
const ASK_AFTER: Duration = Duration::from_secs(15);
const ASK_EVERY: Duration = Duration::from_secs(5);

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
        notice_silence(&stream)?;
        Ok(stream)
    }
}

/// Lets the system notice a peer that has gone while it was to speak.
fn notice_silence(stream: &TcpStream) -> std::io::Result<()> {
    let socket = SockRef::from(stream);
    let questions = (SILENCE - ASK_AFTER).as_secs() / ASK_EVERY.as_secs();
    let keepalive = TcpKeepalive::new().with_time(ASK_AFTER).with_interval(ASK_EVERY).with_retries(questions as u32);
    socket.set_tcp_keepalive(&keepalive)
}

/// Counters of one side of a copy, shared by all its connections.
#[derive(Debug, Default)]
pub struct Traffic {
    bytes: AtomicU64,
    open: AtomicU32,
    peak: AtomicU32,
    waited: AtomicU64,
    queued: AtomicU64,
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

    /// Adds time that a stream spent waiting for the store: in a socket's read or write, in a file's. It tells reading
    /// from decoding and encoding from writing; a store that never adds any is held responsible for both.
    pub fn add_waited(&self, waited: Duration) {
        self.waited.fetch_add(u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Time waited so far, over all streams.
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited.load(Ordering::Relaxed))
    }

    /// Adds time that a stream waited for another of this copy, which the store is not to blame for.
    pub fn add_queued(&self, queued: Duration) {
        self.queued.fetch_add(u64::try_from(queued.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Time queued so far, over all streams.
    pub fn queued(&self) -> Duration {
        Duration::from_nanos(self.queued.load(Ordering::Relaxed))
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

/// Counts how long a store lets its callers wait.
#[derive(Clone)]
pub struct Meter {
    /// The clock.
    pub ambient: Ambient,
    /// Where it is counted.
    pub traffic: Arc<Traffic>,
}

impl Meter {
    /// Waits for the store.
    pub async fn waited<T>(&self, work: impl Future<Output = T>) -> T {
        let started = self.ambient.uptime();
        let result = work.await;
        self.traffic.add_waited(self.ambient.uptime().saturating_sub(started));
        result
    }

    /// Waits for others of this copy.
    pub async fn queued<T>(&self, work: impl Future<Output = T>) -> T {
        let started = self.ambient.uptime();
        let result = work.await;
        self.traffic.add_queued(self.ambient.uptime().saturating_sub(started));
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_that_has_gone_is_noticed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let session = Session::new(Ambient::test(1), "test");
        let stream = session.connect("127.0.0.1", port).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), ASK_AFTER);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), ASK_EVERY);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), None, "a server may pause before it takes more");
    }
}
