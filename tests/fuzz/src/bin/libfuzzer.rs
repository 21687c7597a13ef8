//! One target under libFuzzer, named by DMG_FUZZ_TARGET. A panic that the parser's own caller would catch is no crash;
//! one that leaves the target is. To unpack or pack what is kept, it is run with no more than libFuzzer's first, empty
//! input: a process that ended itself would be taken for a crash.
#![no_main]
#![expect(clippy::disallowed_methods, reason = "the target is named from outside, and a crash is to be seen")]

use std::sync::OnceLock;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    static TARGET: OnceLock<&dmg_fuzz::Target> = OnceLock::new();
    let target = TARGET.get_or_init(|| {
        // libFuzzer's own hook would end the process at a panic that is caught.
        std::panic::set_hook(Box::new(|_| {}));
        let name = std::env::var("DMG_FUZZ_TARGET").unwrap_or_default();
        let Some(target) = dmg_fuzz::target(&name) else { panic!("DMG_FUZZ_TARGET names no target: {name:?}") };
        let folder = |name: &str| std::env::var_os(name).map(std::path::PathBuf::from);
        if let Some(folder) = folder("DMG_FUZZ_UNPACK") {
            dmg_fuzz::corpus::unpack(target, &folder).expect("the folder can be written to");
        }
        if let Some(folder) = folder("DMG_FUZZ_PACK") {
            dmg_fuzz::corpus::pack(target, &folder).expect("the corpus can be written");
        }
        target
    });
    if let Err(panic) = dmg_fuzz::try_one(target, data) {
        eprintln!("{} panicked: {panic}", target.name);
        std::process::abort();
    }
});
