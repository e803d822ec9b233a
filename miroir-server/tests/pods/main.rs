//! Several servers over one Redis and engine nodes. A program of its own: it keeps the machine busy,
//! which tests that look at the clock must not feel.

mod clients;
mod failures;
#[path = "../server/support/mod.rs"]
mod support;

/// One deployment at a time.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
