//! Hides digests from the service: a sum over a column of few values could be guessed, its HMAC cannot. Both sides
//! are keyed alike, so they can still be compared.

use dmg_protocol::{Digest, Receipt, Secret};

/// Replaces every sum by the first 16 bytes of HMAC-SHA256(key, what it is, sum).
pub(crate) fn hide_sums(receipt: &mut Receipt, key: &Secret<String>) {
    for digest in [&mut receipt.read.digest, &mut receipt.written.digest].into_iter().flatten() {
        hide(digest, key.expose().as_bytes());
    }
}

fn hide(digest: &mut Digest, key: &[u8]) {
    let keyed = |text: String| -> String {
        let code = dmg_seal::hmac_sha256(key, text.as_bytes());
        code[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    };
    for column in &mut digest.columns {
        column.sum = keyed(format!("column\n{}\n{}", column.name, column.sum));
    }
    digest.row_sum = keyed(format!("row\n{}", digest.row_sum));
    digest.algorithm = format!("{}+hmac-sha256", digest.algorithm);
}
