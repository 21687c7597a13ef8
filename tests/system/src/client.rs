//! What databases of tests have in common: a name by chance, the place in a URL, and a client that is fed SQL.

use std::io::Write;
use std::process::{Command, Stdio};

/// A name for a database of one test. By chance, not by process id: servers outlive processes, and ids come again.
pub(crate) fn name() -> String {
    let chance: String = dmg_ambient::Ambient::real().uuid().chars().take(8).collect();
    format!("test_{chance}")
}

/// Host and port of `user@host:port`.
pub(crate) fn host_and_port(server: &str) -> (String, u16) {
    let place = server.rsplit('@').next().expect("there is a host");
    let (host, port) = place.split_once(':').expect("there is a port");
    (host.to_owned(), port.parse().expect("the port is a number"))
}

/// Feeds SQL to a client and returns what it prints.
///
/// # Panics
/// When the server refuses it.
pub(crate) fn answer(client: &mut Command, text: &str) -> String {
    let client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = client.spawn().expect("the server's own client is installed");
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("the client reads");
    let output = child.wait_with_output().expect("the client ends");
    let start: String = text.chars().take(200).collect();
    assert!(output.status.success(), "{start}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("the client prints UTF-8")
}
