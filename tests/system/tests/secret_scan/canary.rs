//! Secrets made for one run, in which every encoding shows, and the places that hold one by right.

use dmg_ambient::Ambient;
use dmg_system_tests::scan::{Form, Hit, Scanner, bytes_forms, named_forms};
use dmg_system_tests::{Installation, installation};

/// A secret of its own for each way one comes in, so that a leak says which way it took.
pub(super) const NAMES: &[&str] = &[
    "password by the command line",
    "wrong password by the API",
    "password by credential encrypt",
    "password by apply",
    "password in a broken document",
    "password in a refused document",
    "wrong account key",
    "SAS signature",
    "password of the PFX file",
    "wrong password of a copy",
    "value of a row",
];

/// All secrets of a run.
pub(super) struct Canaries {
    values: Vec<(&'static str, String)>,
    forms: Vec<Form>,
    /// Which secret may be where: part of the place's name.
    by_right: Vec<(&'static str, &'static str)>,
}

/// Letters and digits that no other secret has.
fn core() -> String {
    Ambient::real().uuid().replace('-', "")
}

/// A text that looks different in every encoding.
pub(super) fn secret(core: &str) -> String {
    format!("pü~~~~+/\"\\ %&={core}>>>>???€")
}

/// Standard base64, for keys.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::from_utf8(
        bytes_forms("", bytes).into_iter().find(|form| form.name == "base64 at 0").expect("it is one").bytes,
    )
    .expect("base64 is ASCII");
    // The last letter holds what is left of the bytes where they do not end on a border; whole borders are given here.
    assert_eq!(bytes.len() % 3, 0, "no padding is made here");
    text.shrink_to_fit();
    text
}

impl Canaries {
    pub(super) fn new(account_key: &str) -> Canaries {
        let mut canaries = Canaries { values: Vec::new(), forms: Vec::new(), by_right: Vec::new() };
        for name in NAMES {
            let core = core();
            // What stands around the core may be changed or escaped twice; the core itself is still found.
            canaries.forms.extend(named_forms(&format!("{name} (core)"), &core));
            let value = match *name {
                "wrong account key" => {
                    let bytes = [core.as_bytes(), core.as_bytes(), b">?"].concat();
                    canaries.forms.extend(bytes_forms(&format!("{name} (decoded)"), &bytes));
                    base64(&bytes)
                }
                "SAS signature" => base64(format!("?>{core}>?").as_bytes()),
                _ => secret(&core),
            };
            canaries.forms.extend(named_forms(name, &value));
            canaries.values.push((name, value));
        }
        canaries.add("account key", account_key.to_owned());
        canaries
    }

    fn add(&mut self, name: &'static str, value: String) {
        self.forms.extend(named_forms(name, &value));
        self.values.push((name, value));
    }

    /// Adds what the installation made itself: its access token and the secret part of the gateway key.
    pub(super) fn learn_from(&mut self, site: &Installation) {
        let token = std::fs::read_to_string(site.token_file()).expect("the token");
        self.add("access token", token.trim().to_owned());
        self.by_right.push(("access token", "service/admin.token"));
        let shown = site.dmg(["gateway", "key", "list", "onprem"]).ok();
        for (name, member) in [("gateway key", "authKey1"), ("second gateway key", "authKey2")] {
            let key = installation::find(&shown.json(), &[member]).expect("the key is shown");
            let secret = key.rsplit(['@', '#']).next().expect("a key has parts");
            self.add(name, secret.to_owned());
            for place in ["gateway-key", "gateway create.output", "gateway key.output"] {
                self.by_right.push((name, place));
            }
        }
    }

    pub(super) fn get(&self, name: &str) -> &str {
        &self.values.iter().find(|(have, _)| *have == name).expect("it is in the list").1
    }

    pub(super) fn scanner(&self) -> Scanner {
        Scanner::new(self.forms.clone())
    }

    /// Whether the secret is where it belongs.
    pub(super) fn belongs(&self, hit: &Hit) -> bool {
        self.by_right.iter().any(|(secret, place)| hit.secret == *secret && hit.place.ends_with(place))
    }
}
