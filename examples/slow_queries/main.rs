//! The server with a capability of one's own: its block in the configuration, its headers, its layer,
//! its metric, its line in explanations. All of it stands in `capability.rs`.

mod capability;

use std::process::ExitCode;

use miroir_server::config::Capabilities;

use self::capability::SlowQueries;

#[tokio::main]
async fn main() -> ExitCode {
    miroir_server::run(Capabilities::default().with::<SlowQueries>()).await
}
