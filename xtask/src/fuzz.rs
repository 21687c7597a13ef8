//! Campaigns of the fuzzer over every parser of bytes from outside (`tests/fuzz`): libFuzzer, guided by coverage, on
//! the stable compiler. What it finds worth keeping joins `tests/fuzz/corpus`; a crash stays in `target/fuzz/<target>/crashes`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::steps;

/// What the stable compiler needs to be told to count edges and compare operands as libFuzzer wants.
const COUNTED: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";
const HOST: &str = "x86_64-unknown-linux-gnu";

/// `cargo xtask fuzz [TARGET...] [--runs N]`, or `--coverage` for the line coverage of what is kept.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let mut runs = "1000000";
    let mut wanted = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match *argument {
            "--runs" => runs = rest.next().context("--runs wants a number")?,
            "--coverage" => return coverage(),
            name => wanted.push(name),
        }
    }
    let build = ["build", "--profile", "quick", "--locked", "--target", HOST, "-p", "dmg-fuzz"];
    let mut build = steps::command(env!("CARGO"), &build);
    build.args(["--features", "libfuzzer", "--bin", "fuzz-libfuzzer"]);
    build.env("RUSTFLAGS", COUNTED).env("CARGO_TARGET_DIR", steps::root().join("target/fuzz"));
    steps::run("fuzzer", &mut build)?;
    let program = steps::root().join("target/fuzz").join(HOST).join("quick/fuzz-libfuzzer");
    let mut crashed = Vec::new();
    for name in targets()? {
        if wanted.is_empty() || wanted.contains(&name.as_str()) {
            campaign(&program, &name, runs, &mut crashed)?;
        }
    }
    if !crashed.is_empty() {
        bail!("crashes in {}; the inputs are in target/fuzz/<target>/crashes", crashed.join(", "));
    }
    Ok(())
}

/// Names of the targets, from the one table that has them.
fn targets() -> Result<Vec<String>> {
    let source = std::fs::read_to_string(steps::root().join("tests/fuzz/src/lib.rs"))?;
    let names = source.split("name: \"").skip(1).filter_map(|rest| rest.split('"').next());
    Ok(names.map(str::to_owned).collect())
}

fn campaign(program: &Path, name: &str, runs: &str, crashed: &mut Vec<String>) -> Result<()> {
    let folder = steps::root().join("target/fuzz").join(name);
    let [work, merged, crashes] = ["corpus", "merged", "crashes"].map(|part| folder.join(part));
    for folder in [&work, &merged, &crashes] {
        std::fs::create_dir_all(folder)?;
    }
    let program = program.to_str().context("the repository's path is not UTF-8")?;
    let fuzzer = |arguments: &[String]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = steps::command(program, &arguments);
        command.env("DMG_FUZZ_TARGET", name);
        command
    };
    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    let nothing = ["-runs=0".to_owned()];
    steps::run(&format!("{name}: what is kept"), fuzzer(&nothing).env("DMG_FUZZ_UNPACK", &work))?;
    let options = [
        format!("-runs={runs}"),
        "-timeout=10".to_owned(),
        "-rss_limit_mb=1024".to_owned(),
        "-print_final_stats=1".to_owned(),
        format!("-artifact_prefix={}/", crashes.display()),
        text(&work),
    ];
    if steps::run(&format!("{name}: {runs} runs"), &mut fuzzer(&options)).is_err() {
        crashed.push(name.to_owned());
    }
    // Only what adds coverage is kept, and of two inputs that do the smaller one.
    std::fs::remove_dir_all(&merged)?;
    std::fs::create_dir_all(&merged)?;
    let merge = ["-set_cover_merge=1".to_owned(), text(&merged), text(&work)];
    steps::run(&format!("{name}: merge"), &mut fuzzer(&merge))?;
    steps::run(&format!("{name}: keep"), fuzzer(&nothing).env("DMG_FUZZ_PACK", &merged))
}

/// Least share of a parser's lines that its corpus must reach, in percent.
const COVERED_MIN: f64 = 80.0;

/// Line coverage of the parsers by what is kept, parser by parser. Needs llvm-profdata and llvm-cov of a version that
/// can read the compiler's profiles (Debian's llvm-19 can).
fn coverage() -> Result<()> {
    let folder = steps::root().join("target/fuzz-coverage");
    let profile = folder.join("corpus-%p.profraw");
    let test = ["test", "--profile", "quick", "--locked", "-p", "dmg-fuzz", "--test", "corpus"];
    let mut test = steps::command(env!("CARGO"), &test);
    test.env("RUSTC_WORKSPACE_WRAPPER", steps::root().join("tests/fuzz/counted.sh"));
    test.env("CARGO_TARGET_DIR", &folder).env("LLVM_PROFILE_FILE", &profile).env("DMG_FUZZ_RUNS", "0");
    steps::run("corpus with counters", &mut test)?;
    let find = "set -e; cd \"$1\"; llvm-profdata-19 merge -sparse corpus-*.profraw -o corpus.profdata; rm corpus-*.profraw; \
        program=$(ls -t quick/deps/corpus-* | grep -v '\\.d$' | head -1); shift; \
        llvm-cov-19 export -format=lcov -instr-profile=corpus.profdata \"$program\" \"$@\" > lines.info";
    let mut export = steps::command("bash", &["-c", find, "coverage", &folder.to_string_lossy()]);
    let source = std::fs::read_to_string(steps::root().join("tests/fuzz/src/lib.rs"))?;
    let sources: Vec<&str> = source
        .split('"')
        .filter(|text| text.ends_with(".rs") && text.contains("/src/") && !text.contains(".."))
        .collect();
    export.args(sources.iter().map(|path| steps::root().join(path)));
    steps::run("line coverage", &mut export)?;
    let lines = std::fs::read_to_string(folder.join("lines.info"))?;
    let mut low = Vec::new();
    for path in sources {
        let (hit, all) = counted(&lines, path, &std::fs::read_to_string(steps::root().join(path))?);
        let share = hit as f64 * 100.0 / all.max(1) as f64;
        println!("{share:5.1} %  {hit:5} of {all:5} lines  {path}");
        if share < COVERED_MIN {
            low.push(path);
        }
    }
    if !low.is_empty() {
        bail!("below {COVERED_MIN} %: {}", low.join(", "));
    }
    Ok(())
}

/// Lines of a file that were reached, and all that could be; tests at its end do not count.
fn counted(info: &str, path: &str, source: &str) -> (usize, usize) {
    let code = source.lines().position(|line| line == "#[cfg(test)]").unwrap_or(usize::MAX);
    let Some(record) = info
        .split("end_of_record")
        .find(|record| record.lines().any(|line| line.strip_prefix("SF:").is_some_and(|file| file.ends_with(path))))
    else {
        return (0, 0);
    };
    let lines = record.lines().filter_map(|line| line.strip_prefix("DA:")?.split_once(','));
    let counted = lines.filter(|(line, _)| line.parse::<usize>().is_ok_and(|line| line <= code));
    counted.fold((0, 0), |(hit, all), (_, count)| (hit + usize::from(count != "0"), all + 1))
}
