//! The key of a request, as the other side knows it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::{Sha256, Sha384, Sha512};

use super::pairs::{Kind, Pairs};
use super::side::Side;

/// The main keys.
#[derive(Clone)]
pub struct MainKeys {
    /// What the client uses as the main key.
    pub client: String,
    /// The reference's.
    pub reference: String,
    /// The candidate's.
    pub candidate: String,
}

impl std::fmt::Debug for MainKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MainKeys")
    }
}

impl MainKeys {
    /// The main key of a side.
    pub fn of(&self, side: Side) -> &str {
        match side {
            Side::Reference => &self.reference,
            Side::Candidate => &self.candidate,
        }
    }
}

/// A key or token for one side.
#[derive(Debug, PartialEq, Eq)]
pub enum Mapped {
    /// What opens there the same.
    Key(String),
    /// Sent as it came: nobody knows it, or it is a token that is wrong, such as one of a wrong key.
    AsIs(&'static str),
}

/// What `to` has to get in place of the key or token `sent` of a client that sees the answers of
/// `facing`.
pub fn mapped(sent: &str, facing: Side, to: Side, keys: &MainKeys, pairs: &Pairs) -> Mapped {
    if sent == keys.client {
        return Mapped::Key(keys.of(to).to_owned());
    }
    if facing == to {
        return Mapped::Key(sent.to_owned());
    }
    if let Some(key) = pairs.other(facing, Kind::Key, sent) {
        return Mapped::Key(key.to_owned());
    }
    if sent.split('.').count() == 3 {
        return token(sent, facing, pairs);
    }
    Mapped::AsIs("a key that no side has handed out")
}

/// A tenant token, signed anew with the other side's key.
fn token(sent: &str, facing: Side, pairs: &Pairs) -> Mapped {
    let parts: Vec<&str> = sent.split('.').collect();
    let [head, payload, signature] = parts[..] else { return Mapped::AsIs("not a token") };
    let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
    let (Some(head_bytes), Some(payload_bytes), Some(signature)) =
        (decoded(head), decoded(payload), decoded(signature))
    else {
        return Mapped::AsIs("a token that cannot be read");
    };
    let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    let (head_read, payload_read) = (read(&head_bytes), read(&payload_bytes));
    let algorithm = head_read["alg"].as_str().unwrap_or_default();
    let Some(uid) = payload_read["apiKeyUid"].as_str() else {
        return Mapped::AsIs("a token of no key");
    };
    let Some(other_uid) = pairs.other(facing, Kind::KeyUid, uid) else {
        return Mapped::AsIs("a token of a key that no side has handed out");
    };
    let (Some(own), Some(other)) =
        (pairs.secret(facing, uid), pairs.secret(facing.other(), other_uid))
    else {
        return Mapped::AsIs("a token of a key that was never shown");
    };
    if sign(algorithm, own, &format!("{head}.{payload}")) != Some(signature) {
        return Mapped::AsIs("a token with a wrong signature");
    }
    // Byte by byte what it was, but for the uid.
    let text = String::from_utf8_lossy(&payload_bytes).replace(uid, other_uid);
    let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(text));
    match sign(algorithm, other, &signed) {
        Some(signature) => Mapped::Key(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))),
        None => Mapped::AsIs("a token of another algorithm"),
    }
}

/// The signature of a token; `None` for an algorithm that tokens of tenants do not have.
fn sign(algorithm: &str, key: &str, text: &str) -> Option<Vec<u8>> {
    macro_rules! with {
        ($hash:ty) => {{
            let mut mac = Hmac::<$hash>::new_from_slice(key.as_bytes()).ok()?;
            mac.update(text.as_bytes());
            Some(mac.finalize().into_bytes().to_vec())
        }};
    }
    match algorithm {
        "HS256" => with!(Sha256),
        "HS384" => with!(Sha384),
        "HS512" => with!(Sha512),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const UIDS: [&str; 2] =
        ["11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"];

    fn keys() -> (MainKeys, Pairs) {
        let main = |text: &str| text.to_owned();
        let keys = MainKeys { client: main("mine"), reference: main("R"), candidate: main("C") };
        let mut pairs = Pairs::default();
        let key = |uid: &str, key: &str| json!({"uid": uid, "key": key, "actions": ["search"]});
        pairs.learn_answers(&key(UIDS[0], "one"), &key(UIDS[1], "two"));
        (keys, pairs)
    }

    fn tenant(uid: &str, key: &str) -> String {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = part(json!({"alg": "HS256", "typ": "JWT"}));
        let text = format!("{head}.{}", part(json!({"apiKeyUid": uid, "searchRules": ["*"]})));
        let signature = sign("HS256", key, &text).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    #[test]
    fn keys_are_replaced_by_those_of_the_side() {
        let (keys, pairs) = keys();
        let to = |sent: &str, side| mapped(sent, Side::Reference, side, &keys, &pairs);
        assert_eq!(to("mine", Side::Reference), Mapped::Key("R".into()));
        assert_eq!(to("mine", Side::Candidate), Mapped::Key("C".into()));
        assert_eq!(to("one", Side::Reference), Mapped::Key("one".into()));
        assert_eq!(to("one", Side::Candidate), Mapped::Key("two".into()));
        assert!(matches!(to("wrong", Side::Candidate), Mapped::AsIs(_)));
        let back = mapped("two", Side::Candidate, Side::Reference, &keys, &pairs);
        assert_eq!(back, Mapped::Key("one".into()));
    }

    #[test]
    fn tokens_are_signed_anew_and_wrong_ones_stay_wrong() {
        let (keys, pairs) = keys();
        let to = |sent: &str| mapped(sent, Side::Reference, Side::Candidate, &keys, &pairs);
        assert_eq!(to(&tenant(UIDS[0], "one")), Mapped::Key(tenant(UIDS[1], "two")));
        for wrong in [tenant(UIDS[0], "other"), tenant(UIDS[1], "one"), "a.b.c".to_owned()] {
            assert!(matches!(to(&wrong), Mapped::AsIs(_)), "{wrong}");
        }
    }
}
