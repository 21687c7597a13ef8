//! The kept corpora: one file per target, each input behind its length. Thousands of tiny files would only be in the
//! way.

use std::io::Result;
use std::path::{Path, PathBuf};

use crate::Target;

fn file(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(format!("{}.pack", target.name))
}

/// Starting points and everything kept.
pub fn inputs(target: &Target) -> Result<Vec<Vec<u8>>> {
    let mut inputs = (target.seeds)();
    let path = file(target);
    if path.exists() {
        let packed = std::fs::read(path)?;
        let mut rest = packed.as_slice();
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let (input, after) = after.split_at((u32::from_le_bytes(*length) as usize).min(after.len()));
            inputs.push(input.to_vec());
            rest = after;
        }
    }
    Ok(inputs)
}

/// Writes every input into a folder of its own file, as libFuzzer wants them.
pub fn unpack(target: &Target, folder: &Path) -> Result<()> {
    for (index, input) in inputs(target)?.iter().enumerate() {
        std::fs::write(folder.join(format!("kept-{index}")), input)?;
    }
    Ok(())
}

/// Most bytes kept of one target: a repository is no place for more.
const KEPT_BYTES_MAX: usize = 190 * 1024;

/// Keeps what is in a folder, the smallest first, in an order that depends on nothing else.
pub fn pack(target: &Target, folder: &Path) -> Result<()> {
    let mut inputs = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        inputs.push(std::fs::read(entry?.path())?);
    }
    inputs.sort_by(|a: &Vec<u8>, b| (a.len(), a).cmp(&(b.len(), b)));
    inputs.dedup();
    let mut packed = Vec::new();
    for input in inputs.iter().filter(|input| input.len() <= target.bytes_max) {
        if packed.len() + size_of::<u32>() + input.len() > KEPT_BYTES_MAX {
            break;
        }
        packed.extend((input.len() as u32).to_le_bytes());
        packed.extend(input);
    }
    std::fs::create_dir_all(file(target).parent().unwrap_or(Path::new(".")))?;
    std::fs::write(file(target), packed)
}
