//! The engine node, and Miroir over engine nodes. One program: each would link the engine again.

mod differential;
mod facet_values;
mod foreign;
mod lifecycle;
mod matrix;
mod multi;
mod node;
mod reserved;
mod support;
mod task_routes;
mod visibility;
