//! One command a file: ask, then show.

pub(crate) mod alias;
mod change;
pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod entropy;
pub(crate) mod explain;
pub(crate) mod group;
pub(crate) mod node;
pub(crate) mod operation;
pub(crate) mod pods;
pub(crate) mod replicas;
pub(crate) mod scrape;
pub(crate) mod shadow;
pub(crate) mod shell;
pub(crate) mod stack;
pub(crate) mod status;
pub(crate) mod task;
pub(crate) mod tenant;
pub(crate) mod topology;

use crate::output::Tone;

/// How a node's status is to look.
fn node_tone(status: &str) -> Tone {
    match status {
        "active" => Tone::Good,
        "failed" => Tone::Bad,
        _ => Tone::Doubtful,
    }
}

/// `1 node`, `2 nodes`.
fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

/// One line that does not move the cursor: a text may come from anywhere.
fn clean(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace(char::is_control, "\u{fffd}")
}
