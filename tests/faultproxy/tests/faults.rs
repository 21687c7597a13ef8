//! Every fault against a real server and client: what each end gets to see, and that it is the same every time.

use std::time::Duration;

use dmg_ambient::TaskGroup;
use dmg_faultproxy::{Fault, Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PATIENCE: Duration = Duration::from_secs(10);

/// A server that answers with 100,000 bytes as soon as it was spoken to, behind a proxy.
async fn world() -> (Proxy, TaskGroup) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let mut tasks = TaskGroup::new();
    tasks.spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut word = [0_u8; 64];
            if stream.read(&mut word).await.is_ok_and(|read| read > 0) {
                let _ = stream.write_all(&vec![7_u8; 100_000]).await;
            }
            let _ = stream.shutdown().await;
            open.push(stream);
        }
    });
    (Proxy::start(address).await.expect("a free port"), tasks)
}

/// Speaks, and gives what came back and how it ended: orderly, by an error, or not at all.
async fn ask(proxy: &Proxy, patience: Duration) -> (Vec<u8>, &'static str) {
    let mut stream = TcpStream::connect(proxy.address).await.expect("the proxy listens");
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("the proxy reads");
    let mut got = Vec::new();
    match tokio::time::timeout(patience, stream.read_to_end(&mut got)).await {
        Ok(Ok(_)) => (got, "end"),
        Ok(Err(_)) => (got, "error"),
        Err(_) => (got, "silence"),
    }
}

#[tokio::test]
async fn each_fault_does_what_it_says() {
    let (proxy, _server) = world().await;
    for (line, bytes, how) in [
        ("none", 100_000, "end"),
        ("cut after=40000 way=down", 40_000, "end"),
        ("cut after=3 way=up", 0, "end"),
        ("truncate after=70000", 70_000, "end"),
        ("corrupt after=50000 way=down", 100_000, "end"),
        ("delay ms=1 way=down", 100_000, "end"),
        ("throttle rate=2000000 way=down", 100_000, "end"),
    ] {
        proxy.set(line.parse().unwrap());
        let (got, end) = ask(&proxy, PATIENCE).await;
        assert_eq!((got.len(), end), (bytes, how), "{line}");
        let wrong: Vec<usize> = (0..got.len()).filter(|at| got[*at] != 7).collect();
        assert_eq!(wrong, if line.starts_with("corrupt") { vec![50_000] } else { Vec::new() }, "{line}");
        // It strikes once: the next connection is whole.
        assert_eq!(ask(&proxy, PATIENCE).await.0.len(), 100_000, "after {line}");
        assert_eq!(proxy.seen().struck, u64::from(line != "none"), "{line}");
    }
    proxy.set("reset after=40000 way=down".parse().unwrap());
    assert_eq!(ask(&proxy, PATIENCE).await.1, "error");
}

#[tokio::test]
async fn half_open_is_silence_until_the_next_order() {
    let (proxy, _server) = world().await;
    proxy.set("halfopen after=40000 way=down".parse().unwrap());
    let (got, end) = ask(&proxy, Duration::from_millis(300)).await;
    assert!(got.len() <= 40_000);
    assert_eq!(end, "silence");
    proxy.set(Fault::NONE);
    assert_eq!(ask(&proxy, PATIENCE).await.1, "end");
}

#[tokio::test]
async fn a_busy_server_is_played_for_some_requests() {
    let (proxy, _server) = world().await;
    proxy.set("http status=429 retry=2 times=2".parse().unwrap());
    for expect in ["HTTP/1.1 429", "HTTP/1.1 429", "\u{7}\u{7}\u{7}"] {
        let (got, end) = ask(&proxy, PATIENCE).await;
        let text = String::from_utf8_lossy(&got);
        assert!(text.starts_with(expect), "{text}");
        assert_eq!(end, "end");
        assert!(expect.starts_with('\u{7}') || text.contains("Retry-After: 2"));
    }
}
