//! Version 1's gateway calls, sent from literal JSON by a script; the answers are compared member by member.

use dmg_system_tests::program::test_file;
use dmg_system_tests::{Answer, Installation, judge, need};

#[test]
fn the_version_1_calls_are_answered_as_the_original_does() {
    let exchanges = test_file("golden/v1-gateway.json");
    let _ = need!(judge("judge/v1_gateway.py", [""; 0]));
    let site = Installation::start("info");
    let (url, ca, token) = (site.url(), site.ca(), site.token_file());
    let arguments = [exchanges.as_os_str(), url.as_ref(), ca.as_os_str(), token.as_os_str()];
    let _ = Answer::of(&mut judge("judge/v1_gateway.py", arguments).expect("it was there")).ok();
}
