//! What a sealed credential is bound to. Sealer and opener both come here, so that they can never disagree; nothing
//! here decides whether a mismatch matters.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Settings that say where a store is and how it proves to be that store, per connector. A credential sealed for one place
/// is refused at another, and one sealed for a checked connection is refused where nobody checks.
const BOUND: &[(&str, &[&str])] = &[
    ("azblob", &["account", "endpoint"]),
    ("file", &["root"]),
    ("mysql", &["host", "port", "database", "sslMode"]),
    ("postgres", &["host", "port", "database", "sslMode"]),
    ("sqlite", &["path"]),
    (
        "sqlserver",
        &["host", "port", "database", "redirectHosts", "encrypt", "trustServerCertificate", "hostNameInCertificate"],
    ),
];

/// Members that say where a store is, for stores that no connector serves yet.
const BOUND_ELSEWHERE: &[&str] = &["server", "host", "port", "database", "url", "account", "endpoint"];

/// The binding of the credential of a linked service: factory id, linked service, store and the bound settings in
/// one spelling each. `factory` is the factory's id, `store` the connector's name.
pub fn binding(
    factory: &str,
    linked_service: &str,
    store: &str,
    settings: &Map<String, Value>,
) -> BTreeMap<String, String> {
    let mut bound: BTreeMap<String, String> = [
        ("v", "1".to_owned()),
        ("factory", factory.to_lowercase()),
        ("linkedService", linked_service.to_lowercase()),
        ("store", store.to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    let names = BOUND.iter().find(|(name, _)| *name == store).map_or(BOUND_ELSEWHERE, |(_, names)| names);
    for name in names {
        if let Some(value) = spelling(store, name, settings.get(*name)) {
            bound.insert((*name).to_owned(), value);
        }
    }
    bound
}

/// One spelling for values that mean the same place.
fn spelling(store: &str, name: &str, value: Option<&Value>) -> Option<String> {
    let text = match value {
        Some(Value::String(text)) => text.trim().to_owned(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    let text = match name {
        "host" | "server" | "account" | "redirectHosts" | "sslMode" | "encrypt" => text.to_lowercase(),
        "trustServerCertificate" | "hostNameInCertificate" => text.to_lowercase(),
        "endpoint" => text.trim_end_matches('/').to_lowercase(),
        _ => text,
    };
    match (store, name, text.is_empty()) {
        ("mysql", "port", true) => Some("3306".to_owned()),
        ("postgres", "port", true) => Some("5432".to_owned()),
        ("sqlserver", "port", true) => Some("1433".to_owned()),
        (_, _, true) => None,
        // What is usual and what is not said are one.
        (_, "sslMode", _) if text == "prefer" => None,
        (_, "trustServerCertificate", _) if text == "false" => None,
        _ => Some(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(store: &str, settings: Value) -> BTreeMap<String, String> {
        let Value::Object(settings) = settings else { panic!("settings are an object") };
        binding("F", "Sales DB", store, &settings)
    }

    #[test]
    fn spellings_of_one_place_are_equal() {
        let one = of("postgres", json!({"host": "DB01", "database": "sales", "user": "a"}));
        let other = of("postgres", json!({"host": "db01 ", "port": 5432, "database": "sales", "user": "b"}));
        assert_eq!(one, other);
        assert_eq!(one["port"], "5432");
        assert_eq!(one["linkedService"], "sales db");
        let text = of("postgres", json!({"host": "db01", "port": "5432", "database": "sales"}));
        assert_eq!(one, text);
    }

    #[test]
    fn another_place_is_another_binding() {
        let one = of("postgres", json!({"host": "db01", "database": "sales"}));
        for other in [
            json!({"host": "db02", "database": "sales"}),
            json!({"host": "db01", "database": "Sales"}),
            json!({"host": "db01", "port": 5433, "database": "sales"}),
        ] {
            assert_ne!(one, of("postgres", other));
        }
        assert_ne!(one, of("sqlite", json!({"path": "x"})));
        let plain = of("sqlserver", json!({"host": "db01", "database": "sales"}));
        assert!(!plain.contains_key("redirectHosts"), "what was sealed before it was known still opens");
        assert_ne!(plain, of("sqlserver", json!({"host": "db01", "database": "sales", "redirectHosts": "db02"})));
    }

    #[test]
    fn a_connection_that_is_checked_less_is_another_place() {
        let place = |more: Value| {
            let mut settings = json!({"host": "db01", "database": "sales"});
            settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            settings
        };
        for (store, sealed, opened) in [
            ("postgres", json!({"sslMode": "verify-full"}), json!({"sslMode": "require"})),
            ("postgres", json!({"sslMode": "verify-full"}), json!({})),
            ("mysql", json!({"sslMode": "require"}), json!({"sslMode": "disable"})),
            ("sqlserver", json!({"encrypt": "strict"}), json!({"encrypt": "optional"})),
            ("sqlserver", json!({"trustServerCertificate": false}), json!({"trustServerCertificate": "True"})),
            ("sqlserver", json!({"hostNameInCertificate": "db01.corp"}), json!({"hostNameInCertificate": "evil"})),
        ] {
            assert_ne!(of(store, place(sealed.clone())), of(store, place(opened)), "{store}: {sealed}");
        }
        assert_eq!(of("postgres", place(json!({"sslMode": "Prefer"}))), of("postgres", place(json!({}))));
        let trusted = json!({"trustServerCertificate": "False"});
        assert_eq!(of("sqlserver", place(trusted)), of("sqlserver", place(json!({}))));
        assert_eq!(of("mysql", place(json!({"port": 3306}))), of("mysql", place(json!({}))));
    }
}
