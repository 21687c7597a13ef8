//! A TCP proxy that breaks connections on purpose, always at the same byte for the same order. It knows nothing of
//! what it passes on, except that it can answer an HTTP request in the server's place.

mod fault;
mod pump;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dmg_ambient::TaskGroup;
use tokio::net::{TcpListener, TcpStream};

pub use fault::{Action, Fault, NoFault, Way};

/// What a proxy has seen since its fault was set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Connections taken.
    pub connections: u64,
    /// Faults that struck.
    pub struck: u64,
    /// Bytes passed on, from client to server.
    pub up: u64,
    /// Bytes passed on, from server to client.
    pub down: u64,
}

#[derive(Debug)]
struct Order {
    fault: Fault,
    seen: Seen,
    skipped: u64,
    upstream: SocketAddr,
}

/// What proxy and connections share.
#[derive(Debug, Clone)]
pub(crate) struct Shared(Arc<Mutex<Order>>);

impl Shared {
    fn order(&self) -> MutexGuard<'_, Order> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn fault(&self) -> Fault {
        self.order().fault
    }

    /// Whether the fault strikes here; counts it.
    pub(crate) fn strike(&self, fault: Fault) -> bool {
        let mut order = self.order();
        if order.fault != fault || order.seen.struck >= fault.times {
            return false;
        }
        if order.skipped < fault.skip {
            order.skipped += 1;
            return false;
        }
        order.seen.struck += 1;
        true
    }

    pub(crate) fn passed(&self, way: Way, bytes: u64) {
        let mut order = self.order();
        match way {
            Way::Up => order.seen.up += bytes,
            Way::Down => order.seen.down += bytes,
        }
    }
}

/// A running proxy. It ends, with its connections, when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Shared,
    _task: TaskGroup,
}

impl Proxy {
    /// Listens on a free loopback port and passes on to `upstream`.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(upstream: SocketAddr) -> std::io::Result<Proxy> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let order = Order { fault: Fault::NONE, seen: Seen::default(), skipped: 0, upstream };
        let shared = Shared(Arc::new(Mutex::new(order)));
        let mut task = TaskGroup::new();
        task.spawn(serve(listener, shared.clone()));
        Ok(Proxy { address, shared, _task: task })
    }

    /// From now on this; counts begin anew. Connections that are open obey too.
    pub fn set(&self, fault: Fault) {
        let mut order = self.shared.order();
        order.fault = fault;
        order.seen = Seen::default();
        order.skipped = 0;
    }

    /// What happened since.
    pub fn seen(&self) -> Seen {
        self.shared.order().seen
    }
}

async fn serve(listener: TcpListener, shared: Shared) {
    let mut connections = TaskGroup::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let upstream = {
            let mut order = shared.order();
            order.seen.connections += 1;
            order.upstream
        };
        let shared = shared.clone();
        connections.spawn(async move {
            // A server that is away looks like one that closes at once, which is what the client is to see.
            if let Ok(server) = TcpStream::connect(upstream).await {
                pump::run(client, server, &shared).await;
            }
        });
    }
}
