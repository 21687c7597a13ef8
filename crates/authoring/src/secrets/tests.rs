//! What is secret, what is left of a document without it, and what the mask means.

use serde_json::json;

use super::*;

fn v2(name: &str, members: Value) -> Value {
    json!({"properties": {"type": name, "typeProperties": members}})
}

/// Splits, and checks secrets and what is left of `typeProperties`.
fn check(dialect: Dialect, document: Value, secrets: &[(&str, &str)], left: Value) {
    let split = split_secrets(dialect, &document).expect("splits");
    let found: Vec<_> = split.secrets.iter().map(|(name, value)| (name, value.expose().as_str())).collect();
    assert_eq!(found, secrets, "{document}");
    assert_eq!(split.document_without_secrets["properties"]["typeProperties"], left);
    let stored = split.document_without_secrets.to_string();
    for (_, value) in secrets {
        assert!(!stored.contains(value), "{stored}");
    }
    assert_eq!(masked(dialect, &document)["properties"]["typeProperties"], left);
}

#[test]
fn secrets_are_found_wherever_they_are() {
    check(
        Dialect::V2,
        v2("PostgreSqlV2", json!({"server": "db", "password": {"type": "SecureString", "value": "geheim"}})),
        &[("password", "geheim")],
        json!({"server": "db", "password": {"type": "SecureString", "value": "**********"}}),
    );
    check(
        Dialect::V2,
        v2(
            "AzureStorage",
            json!({"connectionString": {"type": "SecureString",
            "value": "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=a2V5IQ=="}}),
        ),
        &[("accountKey", "a2V5IQ==")],
        json!({"connectionString": {"type": "SecureString",
            "value": "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=**********"}}),
    );
    check(
        Dialect::V1,
        v2(
            "OnPremisesSqlServer",
            json!({"connectionString": "Data Source=s;User ID=u;Password='a;b';", "gatewayName": "g"}),
        ),
        &[("password", "a;b")],
        json!({"connectionString": "Data Source=s;User ID=u;Password=**********", "gatewayName": "g"}),
    );
    check(
        Dialect::V1,
        v2("AzureStorageSas", json!({"sasUri": "https://a.blob.core.windows.net/c?sv=1&sig=x%3D"})),
        &[("sasToken", "sv=1&sig=x%3D")],
        json!({"sasUri": "https://a.blob.core.windows.net/c?**********"}),
    );
    check(
        Dialect::V2,
        v2("MongoDbV2", json!({"connectionString": "mongodb://u:pass@h/db", "database": "d"})),
        &[("connectionString", "mongodb://u:pass@h/db")],
        json!({"connectionString": "**********", "database": "d"}),
    );
    check(
        Dialect::V2,
        v2(
            "RestService",
            json!({"url": "https://x", "authHeaders": {"x-k": {"type": "SecureString", "value": "tok"}}}),
        ),
        &[("authHeaders.x-k", "tok")],
        json!({"url": "https://x", "authHeaders": {"x-k": {"type": "SecureString", "value": "**********"}}}),
    );
    check(
        Dialect::V1,
        v2("OnPremisesPostgreSql", json!({"server": "s", "password": "plain", "username": "u"})),
        &[("password", "plain")],
        json!({"server": "s", "password": "**********", "username": "u"}),
    );
}

#[test]
fn references_to_secrets_are_no_secrets() {
    let members = json!({"server": "s", "password": {"type": "AzureKeyVaultSecret", "secretName": "n",
        "store": {"referenceName": "kv", "type": "LinkedServiceReference"}},
        "credential": {"referenceName": "c", "type": "CredentialReference"}});
    check(Dialect::V2, v2("SqlServer", members.clone()), &[], members);
    let parameter = json!({"password": {"type": "SecureString", "value": "@linkedService().pw"}});
    check(Dialect::V2, v2("SqlServer", parameter.clone()), &[], parameter);
}

#[test]
fn envelopes_go_where_the_original_has_them() {
    let document = v2("OnPremisesSqlServer", json!({"connectionString": "Data Source=s", "gatewayName": "g"}));
    let sealed = with_envelope(Dialect::V1, &document, "ENV");
    assert_eq!(sealed["properties"]["typeProperties"]["connectionString"], "Data Source=s;EncryptedCredential=ENV");
    assert_eq!(envelope_of(Dialect::V1, &sealed).as_deref(), Some("ENV"));
    let again = with_envelope(Dialect::V1, &sealed, "NEW");
    assert_eq!(again["properties"]["typeProperties"]["connectionString"], "Data Source=s;EncryptedCredential=NEW");
    let plain = with_envelope(Dialect::V1, &v2("OnPremisesPostgreSql", json!({"server": "s"})), "ENV");
    assert_eq!(plain["properties"]["typeProperties"]["encryptedCredential"], "ENV");
    let secure = v2("AzureStorage", json!({"connectionString": {"type": "SecureString", "value": "AccountName=a"}}));
    let sealed = with_envelope(Dialect::V2, &secure, "ENV");
    assert_eq!(sealed["properties"]["typeProperties"]["encryptedCredential"], "ENV");
    let split = split_secrets(Dialect::V2, &sealed).expect("splits");
    assert_eq!(split.envelope.as_deref(), Some("ENV"));
}

#[test]
fn the_mask_means_unchanged() {
    let sent = v2(
        "PostgreSqlV2",
        json!({"server": "db", "database": "d", "username": "u",
        "password": {"type": "SecureString", "value": "geheim"}}),
    );
    let split = split_secrets(Dialect::V2, &sent).expect("splits");
    let stored = with_envelope(Dialect::V2, &split.document_without_secrets, "ENV");
    let shown = masked(Dialect::V2, &stored);
    // What was read can be sent back: it brings its envelope.
    let back = split_secrets(Dialect::V2, &shown).expect("splits");
    assert_eq!(back.envelope.as_deref(), Some("ENV"));
    assert!(back.masked.is_empty());
    // Without the envelope the mask stands for the stored secret, of the same target only.
    let mut bare = split.document_without_secrets.clone();
    assert_eq!(split_secrets(Dialect::V2, &bare).expect("splits").masked, ["password"]);
    assert_eq!(unchanged(Dialect::V2, "L", "F", &bare, Some(&stored)).expect("same target"), stored);
    bare["properties"]["typeProperties"]["server"] = json!("evil");
    let fault = unchanged(Dialect::V2, "L", "F", &bare, Some(&stored)).expect_err("another target");
    assert_eq!(
        fault.to_string(),
        "UserErrorCredentialBound: The linked service \"L\" names another target than before (host), so its stored \
         secret is not used. Enter the secret again for the new target."
    );
    assert_eq!(unchanged(Dialect::V2, "L", "F", &bare, None).expect_err("nothing stored").code, "UserErrorDocument");
}

#[test]
fn a_connection_string_masked_as_a_whole_is_the_stored_one() {
    let stored = with_envelope(
        Dialect::V2,
        &v2(
            "AzureStorage",
            json!({"connectionString": {"type": "SecureString", "value": "AccountName=a;AccountKey=**********"}}),
        ),
        "ENV",
    );
    let sent = v2("AzureStorage", json!({"connectionString": {"type": "SecureString", "value": "**********"}}));
    assert_eq!(split_secrets(Dialect::V2, &sent).expect("splits").masked, ["connectionString"]);
    assert_eq!(unchanged(Dialect::V2, "L", "F", &sent, Some(&stored)).expect("the same"), stored);
}

#[test]
fn half_masked_is_refused_and_new_secrets_drop_the_old_envelope() {
    let half = v2("Sftp", json!({"host": "h", "password": "new", "passPhrase": "**********"}));
    assert_eq!(split_secrets(Dialect::V2, &half).expect_err("refused").code, "UserErrorDocument");
    let renewed = v2("PostgreSqlV2", json!({"server": "s", "password": "new", "encryptedCredential": "OLD"}));
    let split = split_secrets(Dialect::V2, &renewed).expect("splits");
    assert_eq!(split.envelope, None);
    assert!(split.document_without_secrets["properties"]["typeProperties"].get("encryptedCredential").is_none());
}

#[test]
fn files_hold_no_masks() {
    let sealed =
        v2("SqlServer", json!({"connectionString": "Data Source=s;Password=**********", "password": "**********"}));
    let clean = without_masks(Dialect::V2, &sealed);
    assert_eq!(clean["properties"]["typeProperties"], json!({"connectionString": "Data Source=s"}));
}
