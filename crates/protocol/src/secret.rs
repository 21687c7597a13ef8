//! Plaintext secrets in memory. Nothing here can be printed, cloned, compared or serialised by accident; what is
//! stored or sent is an envelope text, a different type.

use std::collections::BTreeMap;

use zeroize::{Zeroize, Zeroizing};

/// What answers show in place of a secret.
pub const MASK: &str = "**********";

/// A value that must never be printed or stored. The only way in is [`Secret::expose`].
pub struct Secret<T: Zeroize>(Zeroizing<T>);

impl<T: Zeroize> Secret<T> {
    /// Takes a plaintext into custody; it is wiped when the secret is dropped.
    pub fn new(value: T) -> Self {
        Secret(Zeroizing::new(value))
    }

    /// The plaintext. Every call is counted by `cargo xtask tidy`.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> std::fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(**********)")
    }
}

impl From<&str> for Secret<String> {
    fn from(value: &str) -> Self {
        Secret::new(value.to_owned())
    }
}

/// The opened secrets of one store, by settings name (`password`, `accountKey`, `sasToken`, ...).
#[derive(Debug, Default)]
pub struct Secrets(BTreeMap<String, Secret<String>>);

impl Secrets {
    /// No secret at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds or replaces one secret.
    pub fn insert(&mut self, name: &str, value: Secret<String>) {
        self.0.insert(name.to_owned(), value);
    }

    /// The secret of that settings name.
    pub fn get(&self, name: &str) -> Option<&Secret<String>> {
        self.0.get(name)
    }

    /// Names and values, for the one pipe that hands them to a worker.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Secret<String>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(String, Secret<String>)> for Secrets {
    fn from_iter<I: IntoIterator<Item = (String, Secret<String>)>>(iter: I) -> Self {
        Secrets(iter.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let secret = Secret::from("hunter2");
        assert_eq!(format!("{secret:?}"), "Secret(**********)");
        let all: Secrets = [("password".to_owned(), secret)].into_iter().collect();
        assert!(!format!("{all:?}").contains("hunter2"));
    }
}
