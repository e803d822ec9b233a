//! Tenant tokens: JSON Web Tokens signed with an API key, read as Meilisearch 1.50 reads them.
//!
//! Its errors quote the parsers of JSON and base64, so the claims have the shape, the names and the
//! order of checks that Meilisearch's have: header, claims, then the signature, then the time.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use sha2::{Sha256, Sha384, Sha512};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{MasterKey, SearchRules};

/// Why a token opens nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It is no tenant token; it may be an API key.
    NotAToken,
    /// It is a session of the search page.
    Session,
    /// It is a tenant token, with this fault. In Meilisearch's words.
    Refused(String),
}

/// What a good token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Uid of the key it was signed with. That key may be gone.
    pub key: Uuid,
    /// The indexes it may search, and the filters that are added.
    pub rules: SearchRules,
}

/// The signature algorithms a header may name.
#[derive(Clone, Copy, Debug, Deserialize)]
enum Algorithm {
    HS256,
    HS384,
    HS512,
    ES256,
    ES384,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    EdDSA,
}

#[derive(Debug, Deserialize)]
struct Header {
    #[serde(rename = "typ")]
    _typ: Option<String>,
    alg: Algorithm,
    // What is not text has to be named apart from the rest.
    #[serde(rename = "jwk")]
    _jwk: Option<IgnoredAny>,
    #[serde(rename = "x5c")]
    _x5c: Option<Vec<String>>,
    #[serde(rename = "crit")]
    _crit: Option<Vec<String>>,
    #[serde(flatten)]
    _rest: HashMap<String, Option<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Claims {
    search_rules: SearchRules,
    exp: Option<i64>,
    api_key_uid: Uuid,
}

fn undecodable(reason: impl std::fmt::Display) -> TokenError {
    TokenError::Refused(format!("Could not decode tenant token, {reason}."))
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|error| undecodable(format!("Base64 error: {error}")))
}

fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, TokenError> {
    serde_json::from_slice(json).map_err(|error| undecodable(format!("JSON error: {error}")))
}

type Check = fn(&[u8], &[u8], &[u8]) -> bool;

/// Whether a signature is that of a message under a key, in a time that does not depend on where
/// the two differ. `None` for algorithms without a shared secret.
fn checker(algorithm: Algorithm) -> Option<Check> {
    fn check<M: Mac + KeyInit>(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
        let mut mac = <M as KeyInit>::new_from_slice(key).expect("any length is a key");
        mac.update(message);
        mac.verify_slice(signature).is_ok()
    }
    match algorithm {
        Algorithm::HS256 => Some(check::<Hmac<Sha256>>),
        Algorithm::HS384 => Some(check::<Hmac<Sha384>>),
        Algorithm::HS512 => Some(check::<Hmac<Sha512>>),
        _ => None,
    }
}

/// An audience that the token insists on; nobody here is one.
fn has_audience(claims: &Value) -> bool {
    match claims.get("aud") {
        Some(Value::String(_)) => true,
        Some(Value::Array(list)) => list.iter().all(Value::is_string),
        _ => false,
    }
}

/// Reads and checks a token.
///
/// # Errors
/// [`TokenError`].
pub fn verify(
    token: &str,
    master: &MasterKey,
    now: OffsetDateTime,
) -> Result<Verified, TokenError> {
    let (message, signature) = token.rsplit_once('.').ok_or(TokenError::NotAToken)?;
    let (header, payload) = message.rsplit_once('.').ok_or(TokenError::NotAToken)?;
    let header: Header = parse(&decode(header)?)?;
    let payload = decode(payload)?;
    let all: Value = serde_json::from_slice(&payload).unwrap_or_default();
    if all.get("iss").and_then(Value::as_str) == Some("miroir") {
        return Err(TokenError::Session);
    }
    let claims: Claims = parse(&payload)?;

    let check = checker(header.alg).ok_or_else(|| undecodable("InvalidAlgorithm"))?;
    let key = master.derive(claims.api_key_uid);
    if !check(key.as_bytes(), message.as_bytes(), &decode(signature)?) {
        return Err(undecodable("InvalidSignature"));
    }
    if has_audience(&all) {
        return Err(undecodable("InvalidAudience"));
    }
    let now = now.unix_timestamp();
    if let Some(exp) = claims.exp.filter(|exp| now > *exp) {
        return Err(TokenError::Refused(format!(
            "Tenant token expired. Was valid up to `{exp}` and we're now `{now}`."
        )));
    }
    Ok(Verified { key: claims.api_key_uid, rules: claims.search_rules })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const UID: Uuid = Uuid::from_u128(0x6062_abda_a5aa_4414_ac91_ecd7_944c_0f81);

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap()
    }

    fn master() -> MasterKey {
        MasterKey::new("masterkey1234567890").unwrap()
    }

    fn sign<M: Mac + KeyInit>(header: &Value, claims: &str, key: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let message = format!("{}.{}", part(&header.to_string()), part(claims));
        let mut mac = <M as KeyInit>::new_from_slice(key.as_bytes()).unwrap();
        mac.update(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    fn token(claims: &str) -> String {
        let header = json!({"alg": "HS256", "typ": "JWT"});
        sign::<Hmac<Sha256>>(&header, claims, &master().derive(UID))
    }

    fn fault(token: &str) -> String {
        match verify(token, &master(), now()).unwrap_err() {
            TokenError::Refused(message) => message,
            other => panic!("{other:?}"),
        }
    }

    /// Claims of the test's key with some members.
    fn claims(members: &str) -> String {
        format!("{{{members},\"apiKeyUid\":\"{UID}\"}}")
    }

    #[test]
    fn all_three_algorithms_are_read() {
        let key = master().derive(UID);
        let claims = claims("\"searchRules\":[\"a*\"],\"extra\":1,\"iat\":5,\"exp\":1790000000");
        for token in [
            sign::<Hmac<Sha256>>(&json!({"alg": "HS256", "typ": "JWT"}), &claims, &key),
            sign::<Hmac<Sha384>>(&json!({"alg": "HS384", "kid": "7"}), &claims, &key),
            sign::<Hmac<Sha512>>(&json!({"typ": null, "alg": "HS512"}), &claims, &key),
        ] {
            let verified = verify(&token, &master(), now()).unwrap();
            assert_eq!(verified.key, UID);
            assert_eq!(verified.rules, serde_json::from_value(json!(["a*"])).unwrap());
        }
        // Signed with another algorithm than it says.
        let mixed = sign::<Hmac<Sha512>>(&json!({"alg": "HS256"}), &claims, &key);
        assert_eq!(fault(&mixed), "Could not decode tenant token, InvalidSignature.");
    }

    /// As PyJWT makes them: a token of another program.
    #[test]
    fn foreign_tokens_are_read() {
        let master = MasterKey::new("masterKey-of-the-test").unwrap();
        let verified = verify("eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJhcGlLZXlVaWQiOiI2MDYyYWJkYS1hNWFhLTQ0MTQtYWM5MS1lY2Q3OTQ0YzBmODEiLCJzZWFyY2hSdWxlcyI6eyIqIjp7ImZpbHRlciI6InVzZXIgPSAxIn19LCJleHAiOjE4OTAwMDAwMDB9.0RtBWQUFJYzIIJv-GBNb8DoCsnuQHXpXw-pdlPEfUdw", &master, now()).unwrap();
        assert_eq!(verified.key, UID);
    }

    /// Recorded from Meilisearch 1.50.0.
    #[test]
    fn faults_are_named_in_its_words() {
        let rules = "\"searchRules\":[\"*\"]";
        for (claims, message) in [
            (
                claims(&format!("{rules},\"exp\":1000000000")),
                "Tenant token expired. Was valid up to `1000000000` and we're now `1790000000`.",
            ),
            (
                "{\"searchRules\":[\"*\"],\"exp\":\"x\"}".to_owned(),
                "Could not decode tenant token, JSON error: invalid type: string \"x\", expected \
                 i64 at line 1 column 30.",
            ),
            (
                format!("{{\"apiKeyUid\":\"{UID}\"}}"),
                "Could not decode tenant token, JSON error: missing field `searchRules` at line 1 \
                 column 52.",
            ),
            (
                "{\"searchRules\":[\"*\"]}".to_owned(),
                "Could not decode tenant token, JSON error: missing field `apiKeyUid` at line 1 \
                 column 21.",
            ),
            (
                claims("\"searchRules\":\"*\",\"exp\":4102444800"),
                "Could not decode tenant token, JSON error: data did not match any variant of \
                 untagged enum SearchRules at line 1 column 18.",
            ),
            (
                claims("\"searchRules\":null,\"exp\":4102444800"),
                "Could not decode tenant token, JSON error: data did not match any variant of \
                 untagged enum SearchRules at line 1 column 19.",
            ),
            (
                "{\"searchRules\":[\"*\"],\"apiKeyUid\":\"not a uuid\"}".to_owned(),
                "Could not decode tenant token, JSON error: UUID parsing failed: invalid character: \
                 found `n` at 0 at line 1 column 45.",
            ),
            (
                claims(&format!("{rules},\"aud\":[\"x\"]")),
                "Could not decode tenant token, InvalidAudience.",
            ),
        ] {
            assert_eq!(fault(&token(&claims)), message);
        }

        let good = token(&claims(rules));
        let tampered = format!("{}A", &good[..good.len() - 1]);
        let tampered =
            if tampered == good { format!("{}E", &good[..good.len() - 1]) } else { tampered };
        assert_eq!(fault(&tampered), "Could not decode tenant token, InvalidSignature.");
        let other = MasterKey::new("another-master-key").unwrap();
        let refused =
            TokenError::Refused("Could not decode tenant token, InvalidSignature.".into());
        assert_eq!(verify(&good, &other, now()), Err(refused));

        let key = master().derive(UID);
        let none = sign::<Hmac<Sha256>>(&json!({"alg": "none"}), &claims(rules), &key);
        let start = "Could not decode tenant token, JSON error: unknown variant `none`, expected one \
                     of `HS256`, `HS384`, `HS512`, `ES256`, `ES384`, `RS256`, `RS384`, `RS512`, \
                     `PS256`, `PS384`, `PS512`, `EdDSA` at line 1 column ";
        assert!(fault(&none).starts_with(start), "{}", fault(&none));
        let rsa = sign::<Hmac<Sha256>>(&json!({"alg": "RS256"}), &claims(rules), &key);
        assert_eq!(fault(&rsa), "Could not decode tenant token, InvalidAlgorithm.");
        assert!(fault("!.e30.x").starts_with("Could not decode tenant token, Base64 error: "));
    }

    #[test]
    fn what_is_no_tenant_token_is_something_else() {
        for text in ["", "wrong", "a.b", "a b"] {
            assert_eq!(verify(text, &master(), now()), Err(TokenError::NotAToken), "{text}");
        }
        // A session is one by its issuer, whatever else it holds and whoever signed it.
        let session = token(&claims("\"searchRules\":[\"*\"],\"iss\":\"miroir\""));
        assert_eq!(verify(&session, &master(), now()), Err(TokenError::Session));
        let session = token("{\"iss\":\"miroir\",\"sub\":\"x\"}");
        assert_eq!(verify(&session, &master(), now()), Err(TokenError::Session));
    }
}
