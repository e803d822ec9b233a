//! What pods prove to each other, and how. Pure, but for random numbers and a clock that does not
//! jump.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use miroir_api::{header as names, hexadecimal};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::Instant;
use uuid::Uuid;

use super::claim::Claim;

/// How far a statement's time may be from the time of whoever reads it: the way there, and clocks
/// that do not run equally fast.
pub(super) const WINDOW: Duration = Duration::from_secs(30);

/// What keys are derived for. Nothing else is derived from a master key under such a name: API keys
/// are derived from uids.
const POD_KEY: &[u8] = b"miroir: pods of one cluster, 1";
/// What a MAC is about.
const HELLO: &[u8] = b"hello";
const STATEMENT: &[u8] = b"statement";

/// The form of what is sent.
const VERSION: &str = "v1";

/// Headers that say what a change is, beside its path and body.
const SIGNED: [HeaderName; 3] = [
    header::CONTENT_TYPE,
    HeaderName::from_static(names::IDEMPOTENCY_KEY),
    HeaderName::from_static(names::SESSION),
];

/// What a process proves itself with to other pods, and knows them by. One for all of a process.
pub struct PodProof {
    key: [u8; 32],
    /// What this process is known by. What was said to an earlier one is worth nothing to it.
    process: [u8; 16],
    begun: Instant,
    /// Statements that were taken, by time, as long as they could be taken again.
    taken: Mutex<BTreeSet<(u64, [u8; 16])>>,
}

impl fmt::Debug for PodProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PodProof")
    }
}

/// A pod that proved itself: the process, and how its time goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proven {
    process: [u8; 16],
    age: Duration,
    heard: Instant,
}

/// What a statement says once it is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) claim: Claim,
    /// SHA-256 of the body.
    pub(crate) body: [u8; 32],
}

/// A text that claims to be a statement and is not to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unproven;

/// A number that nobody guesses.
pub(crate) fn nonce() -> [u8; 16] {
    *Uuid::new_v4().as_bytes()
}

/// SHA-256.
pub(crate) fn digest(body: &[u8]) -> [u8; 32] {
    Sha256::digest(body).into()
}

/// Bytes in hexadecimal.
pub(super) fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut out = [0; N];
    (text.len() == 2 * N && text.is_ascii()).then_some(())?;
    for (byte, at) in out.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(out)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn value(text: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(text).expect("hexadecimal digits, letters and signs");
    value.set_sensitive(true);
    value
}

impl PodProof {
    /// Of a cluster whose pods, and nobody else, know `secret`: the master key. Of an empty secret
    /// everybody is a pod.
    pub fn new(secret: &[u8]) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("any length is a key");
        mac.update(POD_KEY);
        Self {
            key: mac.finalize().into_bytes().into(),
            process: nonce(),
            begun: Instant::now(),
            taken: Mutex::default(),
        }
    }

    fn mac(&self, about: &[u8], parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length is a key");
        for part in [&[about], parts].concat() {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// Answers a challenge: this process is a pod, and reached at `address`.
    pub(crate) fn hello(&self, address: &str, challenge: &[u8; 16]) -> HeaderValue {
        let age = millis(self.begun.elapsed());
        let mac = self.hello_mac(address, challenge, &self.process, age);
        value(&format!("{VERSION};{};{age};{}", hexadecimal(&self.process), hexadecimal(&mac)))
    }

    fn hello_mac(&self, address: &str, challenge: &[u8], process: &[u8], age: u64) -> [u8; 32] {
        self.mac(HELLO, &[address.as_bytes(), challenge, process, &age.to_le_bytes()])
    }

    /// Who answered a challenge at `address`, if it is a pod of this cluster that is reached there.
    pub(crate) fn proven(
        &self,
        address: &str,
        challenge: &[u8; 16],
        answer: &HeaderValue,
    ) -> Option<Proven> {
        let mut fields = answer.to_str().ok()?.split(';');
        (fields.next() == Some(VERSION)).then_some(())?;
        let process = bytes::<16>(fields.next()?)?;
        let age = fields.next()?.parse().ok()?;
        let mac = bytes::<32>(fields.next()?)?;
        let right = self.hello_mac(address, challenge, &process, age);
        let same = bool::from(right.ct_eq(&mac)) && fields.next().is_none();
        let age = Duration::from_millis(age);
        same.then(|| Proven { process, age, heard: Instant::now() })
    }

    /// A statement to a pod that proved itself: who asks for this, by this pod's word.
    pub(crate) fn statement(
        &self,
        to: &Proven,
        claim: &Claim,
        parts: &Parts,
        body: &Bytes,
    ) -> HeaderValue {
        let at = millis(to.age + to.heard.elapsed());
        let (nonce, body) = (nonce(), digest(body));
        let said = Said { process: to.process, at, nonce, body, claim: claim.to_string() };
        let mac = self.statement_mac(&said, &parts.method, &parts.uri, &parts.headers);
        value(&format!(
            "{VERSION};{};{at};{};{};{};{}",
            hexadecimal(&said.process),
            hexadecimal(&nonce),
            hexadecimal(&body),
            said.claim,
            hexadecimal(&mac)
        ))
    }

    fn statement_mac(
        &self,
        said: &Said,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> [u8; 32] {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let (at, signed) = (said.at.to_le_bytes(), SIGNED);
        let mut parts: Vec<&[u8]> = vec![
            &said.process,
            &at,
            &said.nonce,
            &said.body,
            said.claim.as_bytes(),
            method.as_str().as_bytes(),
            path.as_bytes(),
        ];
        for name in &signed {
            // Values of one header do not pass for those of the next.
            parts.push(name.as_str().as_bytes());
            parts.extend(headers.get_all(name).iter().map(HeaderValue::as_bytes));
        }
        self.mac(STATEMENT, &parts)
    }

    /// Judges what came as a statement, once: the next time it is no good. `None` for a text that is
    /// none at all.
    ///
    /// # Errors
    /// [`Unproven`] for a statement that is not to be believed: of somebody else, to somebody else,
    /// about something else, too old, or taken before.
    pub(crate) fn judge(
        &self,
        text: &HeaderValue,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Option<Result<Statement, Unproven>> {
        let (said, mac) = Said::read(text.to_str().ok()?)?;
        let right = self.statement_mac(&said, method, uri, headers);
        if !bool::from(right.ct_eq(&mac)) || said.process != self.process {
            return Some(Err(Unproven));
        }
        let Some(claim) = Claim::read(&said.claim) else { return Some(Err(Unproven)) };
        let (now, window) = (millis(self.begun.elapsed()), millis(WINDOW));
        if said.at.abs_diff(now) > window
            || !self.take(said.at, said.nonce, now.saturating_sub(window))
        {
            return Some(Err(Unproven));
        }
        Some(Ok(Statement { claim, body: said.body }))
    }

    /// Whether a statement comes for the first time. Forgets what is older than `oldest`.
    fn take(&self, at: u64, nonce: [u8; 16], oldest: u64) -> bool {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while taken.first().is_some_and(|(at, _)| *at < oldest) {
            taken.pop_first();
        }
        taken.insert((at, nonce))
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.taken.lock().unwrap().len()
    }
}

/// The fields of a statement.
struct Said {
    process: [u8; 16],
    at: u64,
    nonce: [u8; 16],
    body: [u8; 32],
    claim: String,
}

impl Said {
    fn read(text: &str) -> Option<(Self, [u8; 32])> {
        let mut fields = text.split(';');
        (fields.next() == Some(VERSION)).then_some(())?;
        let said = Self {
            process: bytes(fields.next()?)?,
            at: fields.next()?.parse().ok()?,
            nonce: bytes(fields.next()?)?,
            body: bytes(fields.next()?)?,
            claim: fields.next()?.to_owned(),
        };
        let mac = bytes(fields.next()?)?;
        fields.next().is_none().then_some((said, mac))
    }
}
