//! The judges themselves: the Python digest agrees with the golden vectors that the Rust digest is tested against.

use dmg_system_tests::program::test_file;
use dmg_system_tests::{Answer, judge, need};

#[test]
fn the_second_digest_agrees_with_the_golden_vectors() {
    let file = test_file("golden/digest.json");
    let mut golden = need!(judge("judge/digest.py", ["golden".as_ref(), file.as_os_str()]));
    let _ = Answer::of(&mut golden).ok();
}
