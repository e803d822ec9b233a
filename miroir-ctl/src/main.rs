//! `miroir-ctl`: see the library for what it does.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use miroir_ctl::{Cli, Output, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
    let color = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let mut output = Output::new(stdout, stderr, color);
    run(cli, &mut output, |name| std::env::var(name).ok()).await.into()
}
