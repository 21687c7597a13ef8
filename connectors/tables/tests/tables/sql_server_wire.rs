//! Answers of SQL Server that break off, are garbled or come in drops: rows are whole or there is a fault, and what was
//! under way is undone. The other side is the TDS fixture, which does so on demand.

use dmg_connector::conformance::TableWorld as _;
use dmg_connector::{MarkState, Source};
use dmg_protocol::WriteMode;
use dmg_tds_fixture::{Armed, Fault};

use crate::sql_server_support::SqlServer;
use crate::support::{LIMITS, content, copy, digest, read_all, request, rows, stage, table, text};

const ROWS: u64 = 300;

async fn filled() -> SqlServer {
    let server = SqlServer::new().await;
    server.make("src", ROWS).await;
    server.run("CREATE TABLE dst (id bigint NOT NULL, name nvarchar(400) NULL)").await;
    server
}

async fn opened(server: &SqlServer) -> Box<dyn Source> {
    server.source(table("src"), 1, 100_000).await.expect("opens")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_never_taken_for_whole() {
    let server = filled().await;
    let faults = [1, 8, 9, 50, 100, 1000, 4096, 4097, 20_000, 100_000].map(Fault::Cut).into_iter();
    for fault in faults.chain([Fault::Truncate]) {
        let source = opened(&server).await;
        server.fixture.fault(Armed { when: "SELECT [id]".into(), ..Armed::next(fault.clone()) });
        let words = text(read_all(source.as_ref(), LIMITS).await.map(|batches| rows(&batches)));
        assert!(
            words.starts_with("NetworkErrorStoreUnreachable") || words.starts_with("StoreErrorAnswer"),
            "{fault:?}: {words}"
        );
        server.fixture.clear_faults();
    }
    let source = opened(&server).await;
    server.fixture.fault(Armed { when: "SELECT [id]".into(), ..Armed::next(Fault::WrongToken) });
    let words = text(read_all(source.as_ref(), LIMITS).await.map(|batches| rows(&batches)));
    assert!(words.starts_with("StoreErrorAnswer"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_drops_is_the_same_answer() {
    let server = filled().await;
    let columns = opened(&server).await.columns().to_vec();
    let whole = digest(opened(&server).await.as_ref(), &columns).await.expect("reads");
    for size in [777, 4096] {
        let source = opened(&server).await;
        server.fixture.fault(Armed { when: "SELECT [id]".into(), ..Armed::next(Fault::Drip(size, 1)) });
        assert_eq!(digest(source.as_ref(), &columns).await.expect("reads"), whole, "in pieces of {size} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_breaks_off_leaves_the_target_as_it_was() {
    let server = filled().await;
    for (at, (when, fault)) in [
        ("rows of INSERT BULK", Fault::Cut(1)),
        ("rows of INSERT BULK", Fault::DoneThenCut),
        ("INSERT BULK", Fault::Cut(5)),
        ("CREATE TABLE [dbo].[_dmg_", Fault::DoneThenCut),
        ("INSERT INTO [dbo].[dst]", Fault::DoneThenCut),
        ("DROP TABLE [dbo].[_dmg_", Fault::DoneThenCut),
    ]
    .into_iter()
    .enumerate()
    {
        let run = format!("{at:08}-1111-4d55-9c0b-3f6f2f1e7d20");
        let source = opened(&server).await;
        let mut sink = server.sink(request(&run, 1, "dst", WriteMode::Append)).await.expect("opens");
        server.fixture.fault(Armed { when: when.into(), ..Armed::next(fault.clone()) });
        let words = text(copy(source.as_ref(), sink.as_mut()).await);
        assert!(
            words.starts_with("NetworkErrorStoreUnreachable") || words.starts_with("StoreErrorAnswer"),
            "{when} {fault:?}: {words}"
        );
        server.fixture.clear_faults();
        assert_eq!(sink.mark().await.expect("reads"), MarkState::None, "{when} {fault:?}");
        sink.abort().await.expect("cleans up");
        assert_eq!(server.value("SELECT COUNT(*) FROM dst").await, "0", "{when} {fault:?}");
        assert!(!server.names().await.iter().any(|name| name.starts_with("_dmg_")), "no staging left of {when}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_never_sent_is_found_not_to_have_happened() {
    let server = filled().await;
    let source = opened(&server).await;
    let mut sink =
        server.sink(request("99999999-1111-4d55-9c0b-3f6f2f1e7d20", 1, "dst", WriteMode::Append)).await.expect("opens");
    let sums = stage(source.as_ref(), sink.as_mut()).await.expect("stages");
    server.fixture.fault(Armed { when: "COMMIT TRANSACTION".into(), ..Armed::next(Fault::Delay(60_000)) });
    {
        let content = content(&sums);
        let committing = sink.commit(&content);
        let waited = async {
            while server.asked("COMMIT TRANSACTION") == 0 {
                dmg_ambient::Ambient::real().sleep(std::time::Duration::from_millis(10)).await;
            }
            server.fixture.cut_all();
        };
        let (ended, ()) = tokio::join!(committing, waited);
        assert!(ended.expect_err("no answer").outcome_unknown);
    }
    assert_eq!(sink.mark().await.expect("reads"), MarkState::None);
    assert_eq!(sink.commit(&content(&sums)).await.expect("commits").rows, ROWS);
    let source = server.source(table("dst"), 1, 1000).await.expect("opens");
    assert_eq!(rows(&read_all(source.as_ref(), LIMITS).await.expect("reads")), ROWS as usize);
}
