//! All forms of all secrets, looked for in one pass.

use std::collections::BTreeSet;

use aho_corasick::AhoCorasick;

use super::{Form, Hit};

/// Looks for many forms at once.
#[derive(Debug)]
pub struct Scanner {
    search: AhoCorasick,
    forms: Vec<Form>,
}

impl Scanner {
    /// A scanner for these forms.
    ///
    /// # Panics
    /// When a form is so short that it would be found by chance.
    pub fn new(forms: Vec<Form>) -> Scanner {
        for form in &forms {
            assert!(form.bytes.len() >= 12, "{} of {} is too short to be looked for", form.name, form.secret);
        }
        let search = AhoCorasick::new(forms.iter().map(|form| &form.bytes)).expect("the forms are few");
        Scanner { search, forms }
    }

    /// Forms in some bytes, each once.
    pub fn bytes(&self, place: &str, bytes: &[u8]) -> Vec<Hit> {
        let found: BTreeSet<usize> =
            self.search.find_overlapping_iter(bytes).map(|found| found.pattern().as_usize()).collect();
        found
            .into_iter()
            .map(|index| &self.forms[index])
            .map(|form| Hit { place: place.to_owned(), secret: form.secret.clone(), form: form.name })
            .collect()
    }
}
