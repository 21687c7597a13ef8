//! The rules of the house that a program can check. ARCHITECTURE.md and CONTRIBUTING.md say why they are there.

mod graph;
mod sources;

use anyhow::{Result, bail};

/// `cargo xtask tidy`; `bless` accepts the present counts of exposed secrets.
pub(crate) fn run(bless: bool) -> Result<()> {
    let findings = findings(bless)?;
    for finding in &findings {
        eprintln!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings", findings.len());
    }
    println!("tidy");
    Ok(())
}

fn findings(bless: bool) -> Result<Vec<String>> {
    let mut findings = graph::findings()?;
    findings.extend(sources::findings(bless)?);
    findings.extend(crate::pages::stale()?);
    Ok(findings)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_house_is_tidy() {
        let findings = super::findings(false).expect("the repository can be read");
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }
}
