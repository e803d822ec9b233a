//! The server over small nodes. One program: each would link everything again.

mod api;
mod cli;
mod explain;
mod nodes;
mod support;
mod tls;
mod webhooks;
