//! The proxy as a program, ordered about by lines on its standard input and answering each with one line. It ends with
//! its input.
//!
//! `listen NAME HOST:PORT` answers the port; `set NAME FAULT...` answers `ok`; `seen NAME` answers counts.
#![expect(clippy::print_stdout, reason = "its output is its answer")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;

use dmg_faultproxy::Proxy;
use tokio::io::{AsyncBufReadExt as _, BufReader};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut proxies = BTreeMap::new();
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = obey(&mut proxies, &line).await;
        println!("{}", answer.unwrap_or_else(|why| format!("error {why}")));
        if std::io::stdout().flush().is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

async fn obey(proxies: &mut BTreeMap<String, Proxy>, line: &str) -> Result<String, String> {
    let (order, rest) = line.trim().split_once(' ').ok_or("no order")?;
    let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    if order == "listen" {
        let upstream = rest.parse().map_err(|_| format!("\"{rest}\" is no address"))?;
        let proxy = Proxy::start(upstream).await.map_err(|error| error.to_string())?;
        let port = proxy.address.port();
        proxies.insert(name.to_owned(), proxy);
        return Ok(port.to_string());
    }
    let proxy = proxies.get(name).ok_or_else(|| format!("no proxy \"{name}\""))?;
    match order {
        "set" => {
            proxy.set(rest.parse().map_err(|why: dmg_faultproxy::NoFault| why.to_string())?);
            Ok("ok".to_owned())
        }
        "seen" => {
            let seen = proxy.seen();
            Ok(format!("{} {} {} {}", seen.connections, seen.struck, seen.up, seen.down))
        }
        _ => Err(format!("\"{order}\" is no order")),
    }
}
