//! A server with accounts, and a file of credentials as NATS makes them.

use super::*;
use common::refused;
use data_encoding::BASE64URL_NOPAD;
use nkeys::{KeyPair, KeyPairType};
use serde_json::json;

/// A claim about `subject`, signed: a JWT as NATS has them.
fn signed(by: &KeyPair, subject: &KeyPair, claims: Value) -> String {
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let body = json!({
        "jti": "test", "iat": 1_700_000_000, "iss": by.public_key(), "sub": subject.public_key(), "name": "test", "nats": claims,
    });
    let part = |json: &Value| BASE64URL_NOPAD.encode(json.to_string().as_bytes());
    let text = format!("{}.{}", part(&header), part(&body));
    let signature = by.sign(text.as_bytes()).unwrap();
    format!("{text}.{}", BASE64URL_NOPAD.encode(&signature))
}

/// Configures a server with an account, and writes `my.creds` for a user of it.
fn found(directory: &Path) -> Option<Vec<String>> {
    let key = |kind, byte| KeyPair::new_from_raw(kind, [byte; 32]).unwrap();
    let (operator, system) = (key(KeyPairType::Operator, 1), key(KeyPairType::Account, 2));
    let (account, user) = (key(KeyPairType::Account, 3), key(KeyPairType::User, 4));
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
    });
    let of_an_account = json!({"type": "account", "version": 2, "limits": limits});
    let of_the_system = json!({"type": "account", "version": 2, "limits": {
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
    }});
    let of_a_user = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {}});
    let of_an_operator = json!({"type": "operator", "version": 2, "system_account": system.public_key()});
    let config = format!(
        "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{\n  {}: {}\n  {}: {}\n}}\n",
        signed(&operator, &operator, of_an_operator),
        system.public_key(),
        system.public_key(),
        signed(&operator, &system, of_the_system),
        account.public_key(),
        signed(&operator, &account, of_an_account),
    );
    let creds = format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        signed(&account, &user, of_a_user),
        user.seed().unwrap(),
    );
    std::fs::write(directory.join("accounts.conf"), config).unwrap();
    std::fs::write(directory.join("my.creds"), creds).unwrap();
    Some(vec!["-c".into(), directory.join("accounts.conf").display().to_string()])
}

#[test]
fn a_file_of_credentials_says_who_asks() {
    let Some(place) = Place::open_with(found) else { return };
    let here = place.path();
    let creds = here.join("my.creds").display().to_string();
    let nobody = refused(here, &["worker", "--nats", &place.url()]);
    assert!(nobody.contains("authorization violation"), "{nobody}");
    let nonsense = refused(here, &["worker", "--nats", &place.url(), "--creds", "accounts.conf"]);
    assert!(nonsense.contains("credentials accounts.conf: "), "{nonsense}");
    let mut worker = place.worker("t", &["--creds", &creds]);
    let mut trainer = place.train("t", &["rao.steps=1", &format!("nats.creds={creds}")]);
    assert!(trainer.end().success(), "{}", trainer.said());
    assert_eq!(trees_of(&mut worker), 16);
}
