//! Builds what is shipped: one archive with the executable, the licence and the guide, and its checksum.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::steps;

/// `cargo xtask dist`.
pub(crate) fn run() -> Result<()> {
    let build = ["build", "--profile", "dist", "--locked", "--package", "dmg"];
    steps::run("build", &mut steps::command(env!("CARGO"), &build))?;
    // What tests do to the program must not be possible to what is shipped.
    let program = fs::read(steps::root().join("target/dist/dmg"))?;
    for word in ["DMG_FAILPOINTS", "DMG_PLANT", "DMG_CLOCK"] {
        if program.windows(word.len()).any(|window| window == word.as_bytes()) {
            bail!("the executable holds {word}: it was built with failpoints");
        }
    }
    let version = env!("CARGO_PKG_VERSION");
    let host = steps::read(&mut steps::command("rustc", &["-vV"]))?;
    let target = host.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    let name = format!("dmg-{version}-{target}");
    let root = steps::root();
    let folder = root.join("dist").join(&name);
    fs::create_dir_all(&folder)?;
    fs::copy(root.join("target/dist/dmg"), folder.join("dmg"))?;
    for file in ["LICENSE", "README.md"] {
        fs::copy(root.join(file), folder.join(file))?;
    }
    let archive = format!("{name}.tar.gz");
    // Owner, order and time are fixed, so that equal input packs to equal bytes.
    let tar = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "-czf", &archive, &name];
    steps::run("pack", steps::command("tar", &tar).current_dir(root.join("dist")))?;
    let sum = steps::read(steps::command("sha256sum", &[&archive]).current_dir(root.join("dist")))?;
    fs::write(root.join("dist").join(format!("{archive}.sha256")), &sum)?;
    print!("{sum}");
    Ok(())
}
