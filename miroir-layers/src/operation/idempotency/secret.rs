//! Answers that show an API key, as the store may have them: without it.

use miroir_core::keys::MasterKey;
use serde::Deserialize;
use uuid::Uuid;

/// The member of an answer that shows a key, where the key was taken out. A string in JSON has no
/// quote that is not escaped, so nothing that a client wrote looks like it.
const EMPTY: &str = r#""key":"""#;

#[derive(Deserialize)]
struct Shown {
    uid: Uuid,
}

/// The member that shows the key of an answer, which is derived from the `uid` beside it.
fn member(body: &str, master: Option<&MasterKey>) -> Option<String> {
    let Shown { uid } = serde_json::from_str(body).ok()?;
    Some(format!(r#""key":"{}""#, master?.derive(uid)))
}

/// An answer to a change of an API key without the key. Nothing is left of one that is not
/// understood.
pub(super) fn taken_out(body: &str, master: Option<&MasterKey>) -> String {
    member(body, master).map(|member| body.replace(&member, EMPTY)).unwrap_or_default()
}

/// The answer as it was: the key is derived anew.
pub(super) fn put_back(body: &str, master: Option<&MasterKey>) -> String {
    match member(body, master) {
        Some(member) => body.replacen(EMPTY, &member, 1),
        None => body.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use miroir_core::keys::ApiKey;
    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn a_key_is_taken_out_and_comes_back() {
        let master = MasterKey::new("a master key of this test").unwrap();
        let uids = std::array::from_fn(|at| Uuid::from_u128(at as u128));
        let mut key = ApiKey::defaults(OffsetDateTime::UNIX_EPOCH, uids).swap_remove(2);
        key.name = Some(r#"a name with "key":"" in it"#.to_owned());
        let answer = serde_json::to_string(&key.view(&master)).unwrap();
        let stored = taken_out(&answer, Some(&master));
        assert!(!stored.contains(&master.derive(key.uid)), "{stored}");
        assert!(stored.contains(r#""key":"""#), "{stored}");
        assert_eq!(put_back(&stored, Some(&master)), answer);
        // Under another master key the uid has another key, which is the one that is valid then.
        let other = MasterKey::new("another master key").unwrap();
        assert!(put_back(&stored, Some(&other)).contains(&other.derive(key.uid)));
    }

    #[test]
    fn what_is_not_understood_is_not_kept() {
        let master = MasterKey::new("a master key of this test");
        for body in ["", "{}", r#"{"key":"secret"}"#, "secret"] {
            assert_eq!(taken_out(body, master.as_ref()), "");
        }
        assert_eq!(taken_out(r#"{"uid":"00000000-0000-0000-0000-000000000000"}"#, None), "");
        assert_eq!(put_back("", master.as_ref()), "");
    }
}
