//! Proofs of a password, one function per plugin. A password in clear goes over an encrypted connection only.

use aws_lc_rs::digest::{self, Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

/// The plugins we can answer.
pub(super) const NATIVE: &str = "mysql_native_password";
pub(super) const CACHING: &str = "caching_sha2_password";

fn hash(algorithm: &'static Algorithm, pieces: &[&[u8]]) -> Vec<u8> {
    let mut context = digest::Context::new(algorithm);
    pieces.iter().for_each(|piece| context.update(piece));
    context.finish().as_ref().to_vec()
}

fn xor(left: &mut [u8], right: &[u8]) {
    left.iter_mut().zip(right).for_each(|(left, right)| *left ^= right);
}

/// The first answer to that plugin's question; `None` for a plugin we do not know. An empty password is an empty
/// answer.
pub(super) fn answer(plugin: &str, password: &[u8], nonce: &[u8]) -> Option<Vec<u8>> {
    if !matches!(plugin, NATIVE | CACHING) {
        return None;
    }
    if password.is_empty() {
        return Some(Vec::new());
    }
    // The nonce is 20 bytes and, in some versions, a zero behind them.
    let nonce = nonce.get(..20).unwrap_or(nonce);
    let (algorithm, nonce_first) = match plugin {
        NATIVE => (&SHA1_FOR_LEGACY_USE_ONLY, true),
        _ => (&SHA256, false),
    };
    let mut proof = hash(algorithm, &[password]);
    let stored = hash(algorithm, &[&proof]);
    let mask = if nonce_first { hash(algorithm, &[nonce, &stored]) } else { hash(algorithm, &[&stored, nonce]) };
    xor(&mut proof, &mask);
    Some(proof)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    // Computed by Python's hashlib from the published definitions.
    #[test]
    fn proofs() {
        let nonce = b"abcdefghijklmnopqrst\0";
        assert_eq!(
            answer(NATIVE, b"secret", nonce).map(|proof| hex(&proof)).as_deref(),
            Some("8817c50fa779daef010ee7577825b0847df9842e")
        );
        assert_eq!(
            answer(CACHING, b"secret", nonce).map(|proof| hex(&proof)).as_deref(),
            Some("c76e2898612a4cf042c77fa8c4702c4c64c0c2c557c53c4d75595aaa6abae809")
        );
        assert_eq!(answer(NATIVE, b"", nonce), Some(Vec::new()));
        assert_eq!(answer("client_ed25519", b"secret", nonce), None);
    }
}
