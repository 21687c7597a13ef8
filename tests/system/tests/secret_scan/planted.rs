//! The positive control: in every place and every form a secret of its own is planted, and the same looking must find
//! it. What the scanner cannot see here, it would not have seen anywhere.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use dmg_ambient::Ambient;
use dmg_system_tests::scan::{Form, Hit, Scanner, Watch, named_forms};
use dmg_system_tests::{Installation, report};
use rusqlite::Connection;

use super::canary;

/// Where secrets are planted, and the part of a hit's place that shows it was seen there.
const PLACES: &[(&str, &str)] = &[
    ("database", "service/planted.db"),
    ("journal", "service/journal.db-wal"),
    ("torn row", "table torn of"),
    ("service folder", "service/planted"),
    ("node folder", "node/planted"),
    ("service log", "/service.log"),
    ("node log", "/node.log"),
    ("command's answer", "planted.errors"),
    ("API answer", "planted.output"),
    ("arguments", "arguments of "),
    ("environment", "environment of "),
    ("temporary file", "tmp/planted"),
    ("gone temporary file", "tmp/gone"),
    ("staging", "out/.planted"),
];

/// Starts a program with exactly these bytes as its environment, also such as no shell would make.
const WITH_ENVIRONMENT: &str = "
import ctypes, sys
pieces = sys.stdin.buffer.readline().rstrip(b'\\n')
pieces = [bytes.fromhex(piece.decode()) for piece in pieces.split(b' ')]
array = lambda items: (ctypes.c_char_p * (len(items) + 1))(*items, None)
ctypes.CDLL(None).execve(b'/bin/cat', array([b'cat']), array(pieces))
";

/// One planted secret: place, form, what is planted.
type Plants = BTreeMap<(&'static str, &'static str), Vec<u8>>;

/// Plants, looks, prints the table.
pub(super) fn are_found(site: &Installation) {
    let mut plants = Plants::new();
    let mut forms: Vec<Form> = Vec::new();
    for (place, _) in PLACES {
        for index in 0..named_forms("", &canary::secret("")).len() {
            let secret = canary::secret(&Ambient::real().uuid().replace('-', ""));
            let form = named_forms("", &secret).swap_remove(index);
            forms.extend(named_forms(&format!("{place}, {}", form.name), &secret));
            plants.insert((place, form.name), [b" ".as_slice(), &form.bytes, b" "].concat());
        }
    }
    let scanner = Arc::new(Scanner::new(forms));
    let watch = Watch::start(Arc::clone(&scanner), vec![site.path("tmp")]);
    let _journal = plant_in_databases(site, &plants);
    plant_in_files(site, &plants);
    let children: Vec<Child> = plant_in_processes(&plants);
    watch.has_looked();
    for path in gone(site, &plants).into_keys() {
        std::fs::remove_file(path).expect("it was there");
    }
    let mut hits: Vec<Hit> = watch.stop().hits.into_iter().collect();
    for mut child in children {
        drop(child.stdin.take());
        let _ = child.wait();
    }
    hits.extend(scanner.folder(&site.path("")));
    judge(&hits, &plants);
}

fn judge(hits: &[Hit], plants: &Plants) {
    let mut missed = 0;
    let width = plants.keys().map(|(_, form)| form.len()).max().unwrap_or_default();
    let names: Vec<&str> = PLACES.iter().map(|(place, _)| *place).collect();
    report(&format!("{:width$} | {}", "planted and seen", names.join(" | ")));
    let forms: std::collections::BTreeSet<&str> = plants.keys().map(|(_, form)| *form).collect();
    for form in forms {
        let mut line = format!("{form:width$}");
        for (place, shown) in PLACES {
            let secret = format!("{place}, {form}");
            let seen = hits.iter().any(|hit| hit.secret == secret && hit.form == form && hit.place.contains(shown));
            missed += usize::from(!seen);
            let (word, width) = (if seen { "seen" } else { "MISSED" }, place.len());
            line += &format!(" | {word:width$}");
        }
        report(&line);
    }
    // A torn one shows that rows are read: the file's bytes alone do not have it.
    let torn = |hit: &&Hit| hit.secret.starts_with("torn row") && !hit.place.starts_with("table ");
    assert_eq!(hits.iter().find(torn), None, "the torn row was not torn");
    assert_eq!(missed, 0, "the scanner did not see everything that was planted");
}

fn of<'a>(plants: &'a Plants, place: &'a str) -> impl Iterator<Item = (&'static str, &'a Vec<u8>)> {
    plants.iter().filter(move |((at, _), _)| *at == place).map(|((_, form), bytes)| (*form, bytes))
}

/// Copies of the service's own database with rows more; the journal's stays open, or it would be folded in.
fn plant_in_databases(site: &Installation, plants: &Plants) -> Connection {
    let state = std::fs::read_dir(site.service_data()).expect("the service's folder").flatten();
    let state = state.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|ending| ending == "db"));
    let state = Connection::open(state.expect("the service keeps its state in a database")).expect("it opens");
    let copy = |name: &str| {
        let path = site.service_data().join(name);
        state.execute("VACUUM INTO ?1", [path.to_str().expect("a plain path")]).expect("the database is copied");
        Connection::open(path).expect("the copy opens")
    };
    let insert = |database: &Connection, table: &str, bytes: &[u8]| {
        database.execute(&format!("INSERT INTO {table} VALUES (?1)"), [bytes]).expect("the row is taken");
    };
    let database = copy("planted.db");
    database.execute_batch("CREATE TABLE plain (v BLOB); CREATE TABLE torn (v BLOB)").expect("tables are made");
    of(plants, "database").for_each(|(_, bytes)| insert(&database, "plain", bytes));
    let page: u16 = database.query_row("PRAGMA page_size", [], |row| row.get(0)).expect("the size of a page");
    for (_, bytes) in of(plants, "torn row") {
        insert(&database, "torn", &torn(page.into(), bytes));
    }
    database.close().expect("it closes");

    let journal = copy("journal.db");
    journal.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE plain (v BLOB)").expect("the journal is begun");
    of(plants, "journal").for_each(|(_, bytes)| insert(&journal, "plain", bytes));
    journal
}

/// A cell so long that it is spread over pages, with the bytes across a border. The sizes are those of SQLite's file
/// format, section 1.6: what stays of a long cell on its own page, and what an overflow page holds.
fn torn(page: usize, bytes: &[u8]) -> Vec<u8> {
    const HEADER: usize = 4;
    let (kept, overflow) = ((page - 12) * 32 / 255 - 23, page - 4);
    let mut cell = vec![b'.'; kept + 3 * overflow - HEADER];
    let start = kept + overflow - HEADER - bytes.len() / 2;
    cell[start..start + bytes.len()].copy_from_slice(bytes);
    cell
}

fn append(path: &Path, bytes: &[u8]) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).expect("the file opens");
    file.write_all(bytes).and_then(|()| file.write_all(b"\n")).expect("it is written");
}

fn gone<'a>(site: &Installation, plants: &'a Plants) -> BTreeMap<std::path::PathBuf, &'a Vec<u8>> {
    let named = of(plants, "gone temporary file").enumerate();
    named.map(|(index, (_, bytes))| (site.path(&format!("tmp/gone{index}")), bytes)).collect()
}

fn plant_in_files(site: &Installation, plants: &Plants) {
    for (place, file) in [
        ("service folder", "service/planted"),
        ("node folder", "node/planted"),
        ("service log", "service.log"),
        ("node log", "node.log"),
        ("command's answer", "answers/planted.errors"),
        ("API answer", "answers/planted.output"),
        ("temporary file", "tmp/planted"),
        ("staging", "out/.planted"),
    ] {
        of(plants, place).for_each(|(_, bytes)| append(&site.path(file), bytes));
    }
    for (path, bytes) in gone(site, plants) {
        append(&path, bytes);
    }
}

/// Processes that wait on their standard input. Zero bytes part arguments and variables, so a form that holds some is
/// planted as several.
fn plant_in_processes(plants: &Plants) -> Vec<Child> {
    let python = dmg_ambient::environment("DMG_TEST_PYTHON").expect("it was there");
    let mut children = Vec::new();
    for (_, bytes) in of(plants, "arguments") {
        let pieces = bytes.split(|byte| *byte == 0).map(OsStr::from_bytes);
        let mut command = Command::new("sh");
        command.args(["-c", "read line", "sh"]).args(pieces).stdin(Stdio::piped());
        children.push(command.spawn().expect("sh starts"));
    }
    for (_, bytes) in of(plants, "environment") {
        let hex = |piece: &[u8]| piece.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let line = bytes.split(|byte| *byte == 0).map(hex).collect::<Vec<_>>().join(" ");
        let mut command = Command::new(&python);
        let mut child = command.args(["-c", WITH_ENVIRONMENT]).stdin(Stdio::piped()).spawn().expect("Python starts");
        let input = child.stdin.as_mut().expect("piped");
        input.write_all(line.as_bytes()).and_then(|()| input.write_all(b"\n")).expect("the line is taken");
        children.push(child);
    }
    // Until each is the program it becomes, its environment is not what was planted.
    dmg_system_tests::wait::until("the planted processes", std::time::Duration::from_secs(30), || {
        let ready = |child: &Child| {
            let arguments = std::fs::read(format!("/proc/{}/cmdline", child.id())).unwrap_or_default();
            arguments.starts_with(b"cat\0") || arguments.starts_with(b"sh\0")
        };
        children.iter().all(ready).then_some(())
    });
    children
}
