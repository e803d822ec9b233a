//! `config`: the server's own judgement of a file, without starting it.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::json;
use tokio::process::Command;

use crate::cli::{Config, ConfigFile};
use crate::error::{Code, CtlError};
use crate::output::{Output, Tone};

/// The server's program.
const SERVER: &str = "miroir-server";

pub(crate) async fn run(config: &Config, output: &mut Output) -> Result<Code, CtlError> {
    let (file, show) = match config {
        Config::Check(file) => (file, false),
        Config::Show(file) => (file, true),
    };
    let program = program(file);
    let ran = Command::new(&program)
        .arg("--config")
        .arg(&file.file)
        .arg("--check-config")
        .stdin(Stdio::null())
        .output()
        .await;
    let ran = ran.map_err(|error| {
        CtlError::usage(
            format!("{} cannot be run: {error}", program.display()),
            "install miroir-server beside miroir-ctl, or name it with --server or MIROIR_SERVER",
        )
    })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let (said, complaints) = (text(&ran.stdout), text(&ran.stderr));
    let name = file.file.display();
    if output.json() {
        let lines: Vec<&str> = complaints.lines().collect();
        let valid = ran.status.success();
        let mut all = json!({ "file": name.to_string(), "valid": valid, "messages": lines });
        if show && valid {
            all["effective"] = said.into();
        }
        output.line(&all.to_string());
        return Ok(if valid { Code::Done } else { Code::Findings });
    }
    if !ran.status.success() {
        let remedy = "each line names the key and the remedy; secrets come from MIROIR_MASTER_KEY, \
                      MIROIR_NODE_MASTER_KEY and MIROIR_ADMIN_API_KEY, as for the server";
        return Err(CtlError::finding(format!("{name}: {complaints}"), remedy));
    }
    for line in complaints.lines() {
        output.note(line);
    }
    if show {
        output.line(&said);
    } else {
        output.marked("valid", Tone::Good, &format!(": {name}"));
    }
    Ok(Code::Done)
}

/// The server that is asked.
fn program(file: &ConfigFile) -> PathBuf {
    let beside = || {
        let own = std::env::current_exe().ok()?;
        let path = own.parent()?.join(format!("{SERVER}{}", std::env::consts::EXE_SUFFIX));
        path.is_file().then_some(path)
    };
    file.server.clone().or_else(beside).unwrap_or_else(|| SERVER.into())
}
