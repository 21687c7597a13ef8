//! Prints how fast tables are read and decoded: `copy_rate TABLE [LANES]`, with DMG_TEST_POSTGRES naming the server.
//! A tool for measuring by hand, not part of the product.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dmg_ambient::{Ambient, TaskGroup};
use dmg_connector::{BatchLimits, Session, Source};
use dmg_protocol::job::StoreObject;
use dmg_protocol::{Secret, Secrets};
use futures::StreamExt;
use serde_json::json;

/// Processor seconds of this process, user and system.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "a tool for measuring prints what it measured")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let table = arguments.next().expect("the table's name");
    let lanes: usize = arguments.next().map_or(2, |text| text.parse().expect("a number of lanes"));
    let url = dmg_ambient::environment("DMG_TEST_POSTGRES").expect("DMG_TEST_POSTGRES");
    let rest = url.strip_prefix("postgres://").expect("postgres://user@host:port/database");
    let (user, rest) = rest.split_once('@').expect("user@");
    let (address, database) = rest.split_once('/').expect("/database");
    let (host, port) = address.split_once(':').expect(":port");
    let file = dmg_ambient::environment("DMG_TEST_POSTGRES_PASSWORD_FILE").expect("a password file");
    let password = std::fs::read_to_string(file).expect("the password file").trim().to_owned();
    let settings = json!({"host": host, "port": port, "database": database, "user": user, "sslMode": "disable"});
    let secrets: Secrets = [("password".to_owned(), Secret::new(password))].into_iter().collect();
    let ambient = Ambient::real();
    let connection = dmg_tables::store("postgres")
        .expect("is in the list")
        .open(settings.as_object().expect("an object"), &secrets, Session::new(ambient.clone(), "dmg/rate"))
        .await
        .expect("opens");
    let object = StoreObject::Table { schema: None, table };
    let source: Arc<dyn Source> = connection.source(&object, lanes, 500_000).await.expect("opens").into();
    let limits = BatchLimits { rows: 65_536, bytes: 8 << 20, value_bytes: 64 << 20 };
    let (started, processor) = (ambient.uptime(), processor_seconds());
    let (next, rows) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut tasks: TaskGroup = TaskGroup::new();
    for _ in 0..lanes {
        let (source, next, rows) = (source.clone(), next.clone(), rows.clone());
        tasks.spawn(async move {
            while let Some(part) = source.parts().get(next.fetch_add(1, Ordering::SeqCst)) {
                let mut stream = source.read(part, limits).await.expect("reads");
                while let Some(batch) = stream.next().await {
                    rows.fetch_add(batch.expect("a batch").num_rows(), Ordering::SeqCst);
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no panic");
    }
    source.finish().await.expect("ends");
    let (rows, seconds) = (rows.load(Ordering::SeqCst), (ambient.uptime() - started).as_secs_f64());
    println!(
        "{rows} rows in {} parts over {lanes} lanes: {seconds:.2} s, {:.0} rows/s, {:.2} processor seconds, {:.0} MB/s",
        source.parts().len(),
        rows as f64 / seconds,
        processor_seconds() - processor,
        source.traffic().bytes() as f64 / seconds / 1e6
    );
}
