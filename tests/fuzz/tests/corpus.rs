//! Every parser of bytes from outside survives its corpus and fresh mutations of it. DMG_FUZZ_RUNS makes it longer,
//! DMG_SEED draws other mutations; a failing input is printed so that it can join the corpus.
#![expect(clippy::disallowed_methods, reason = "the time one input may take is the point")]

use std::time::{Duration, Instant};

use dmg_fuzz::mutate::{Dice, mutate};
use dmg_fuzz::{TARGETS, Target, corpus, try_one};

/// Far beyond what any input of this size should take, on a machine that does other things too.
const HANG: Duration = Duration::from_secs(10);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn check(target: &Target, input: &[u8]) {
    let started = Instant::now();
    if let Err(panic) = try_one(target, input) {
        panic!("{} panicked ({panic}) at {}", target.name, input.escape_ascii());
    }
    assert!(started.elapsed() < HANG, "{} hung at {}", target.name, input.escape_ascii());
}

#[test]
fn no_input_makes_a_parser_panic_or_hang() {
    let (runs, seed) = (number("DMG_FUZZ_RUNS", 20_000), number("DMG_SEED", 1));
    for target in TARGETS {
        let corpus = corpus::inputs(target).expect("the kept corpus can be read");
        assert!(!corpus.is_empty(), "{} has somewhere to start", target.name);
        for input in &corpus {
            check(target, input);
        }
        let mut dice = Dice::new(seed);
        for _ in 0..runs {
            let mut input = corpus[dice.below(corpus.len())].clone();
            let other = corpus[dice.below(corpus.len())].clone();
            mutate(&mut dice, &mut input, &other, target.bytes_max);
            check(target, &input);
        }
        eprintln!("{}: {} kept, {runs} fresh", target.name, corpus.len());
    }
}
