//! Miroir server: see [`miroir_server::run`].

use std::process::ExitCode;

use miroir_server::config::Capabilities;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    miroir_server::run(Capabilities::default()).await
}
