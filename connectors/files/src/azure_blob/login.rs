//! How requests prove who asks: a shared access signature as given, or one signed with the account key for an hour.
//! The key stays in this module. It signs (HMAC-SHA256); nothing is enciphered here.

use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dmg_ambient::Ambient;
use dmg_connector::Result;
use dmg_protocol::{Fault, Secret};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Version of the storage service's protocol, for signatures and requests: old enough for every emulator and cloud.
pub(super) const VERSION: &str = "2023-11-03";

const LIFE_SECONDS: i64 = 3600;
/// A token is replaced at 80 % of its life, so that a request under way does not lose it.
const FRESH_SECONDS: i64 = LIFE_SECONDS * 8 / 10;

/// A way to log in.
pub(super) enum Login {
    Token(Secret<String>),
    Key(AccountKey),
}

pub(super) struct AccountKey {
    account: String,
    key: Zeroizing<Vec<u8>>,
    https: bool,
    ambient: Ambient,
    minted: Mutex<Option<Minted>>,
}

struct Minted {
    token: Secret<String>,
    at: i64,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(**********)")
    }
}

impl Login {
    pub(super) fn by_token(token: &Secret<String>) -> Result<Self> {
        let token = token.expose().trim().trim_start_matches('?');
        if !token.split('&').any(|pair| pair.starts_with("sig=")) {
            let message = "The shared access signature has no \"sig\" part; it is cut or something else.";
            let fault = Fault::new("UserErrorLoginRefused", message);
            return Err(fault.remedy("Copy the whole shared access signature again.").into());
        }
        Ok(Login::Token(Secret::new(token.to_owned())))
    }

    pub(super) fn by_key(account: &str, key: &Secret<String>, https: bool, ambient: Ambient) -> Result<Self> {
        let key = STANDARD.decode(key.expose().trim()).map_err(|_| {
            let message = "The account key is not the text of a key; it is cut or mistyped.";
            Fault::new("UserErrorLoginRefused", message).remedy("Copy the whole account key again.")
        })?;
        let (account, key) = (account.to_owned(), Zeroizing::new(key));
        Ok(Login::Key(AccountKey { account, key, https, ambient, minted: Mutex::new(None) }))
    }

    /// The query part that proves who asks.
    pub(super) fn token(&self) -> Secret<String> {
        match self {
            Login::Token(token) => Secret::new(token.expose().clone()),
            Login::Key(key) => key.token(),
        }
    }
}

impl AccountKey {
    fn token(&self) -> Secret<String> {
        let now = self.ambient.unix_seconds();
        let mut minted = self.minted.lock().expect("no holder of this lock panics");
        match &*minted {
            Some(minted) if (minted.at..minted.at + FRESH_SECONDS).contains(&now) => {
                Secret::new(minted.token.expose().clone())
            }
            _ => {
                let token = self.mint(now);
                let again = Secret::new(token.expose().clone());
                *minted = Some(Minted { token, at: now });
                again
            }
        }
    }

    /// An account signature for blobs: read, write, create and list; containers and blobs, and the service for the
    /// connection test. No deletion.
    fn mint(&self, now: i64) -> Secret<String> {
        let expiry = format!("{}Z", &dmg_ambient::rfc3339((now + LIFE_SECONDS) * 1_000_000)[..19]);
        let (permissions, protocol) = ("rwlc", if self.https { "https" } else { "https,http" });
        let signed = format!("{}\n{permissions}\nb\nsco\n\n{expiry}\n\n{protocol}\n{VERSION}\n\n", self.account);
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        mac.update(signed.as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query
            .append_pair("sv", VERSION)
            .append_pair("ss", "b")
            .append_pair("srt", "sco")
            .append_pair("sp", permissions)
            .append_pair("se", &expiry)
            .append_pair("spr", protocol)
            .append_pair("sig", &signature);
        Secret::new(query.finish())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn tokens_are_minted_anew_before_they_expire() {
        let ambient = Ambient::test(1);
        let login = Login::by_key("acme", &Secret::from("a2V5"), true, ambient.clone()).unwrap();
        let first = login.token().expose().clone();
        // The signature was computed with Python's hmac over the published string to sign.
        assert_eq!(
            first,
            "sv=2023-11-03&ss=b&srt=sco&sp=rwlc&se=2026-01-01T01%3A00%3A00Z&spr=https&sig=wnvE6brfaTn8DSocTWC%2BTovEjHrpUAFY%2FWFL8xtwB4s%3D"
        );
        ambient.advance(Duration::from_secs(2879));
        assert_eq!(*login.token().expose(), first);
        ambient.advance(Duration::from_secs(2));
        assert_ne!(*login.token().expose(), first);
    }

    #[test]
    fn debug_shows_nothing() {
        let login = Login::by_key("acme", &Secret::from("aHVudGVyMg=="), true, Ambient::test(1)).unwrap();
        assert_eq!(format!("{login:?}"), "Login(**********)");
    }
}
