//! `completions` and `man`.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::error::{Code, CtlError};
use crate::output::Output;

pub(crate) fn completions(shell: Shell, output: &mut Output) -> Code {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "miroir-ctl", &mut text);
    output.print(&String::from_utf8_lossy(&text));
    Code::Done
}

pub(crate) fn man(directory: Option<&Path>, output: &mut Output) -> Result<Code, CtlError> {
    let Some(directory) = directory else {
        let mut text = Vec::new();
        let rendered = clap_mangen::Man::new(Cli::command()).render(&mut text);
        rendered.map_err(|error| failed(&error.to_string()))?;
        output.print(&String::from_utf8_lossy(&text));
        return Ok(Code::Done);
    };
    clap_mangen::generate_to(Cli::command(), directory).map_err(|error| {
        failed(&format!("cannot be written to {}: {error}", directory.display()))
    })?;
    Ok(Code::Done)
}

fn failed(why: &str) -> CtlError {
    CtlError::usage(
        format!("the manual {why}"),
        "give --directory a directory that can be written to",
    )
}
