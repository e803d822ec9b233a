//! The languages: what each needs, how its packages are installed, how its program is started.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::cargo_at;
use crate::{Outcome, guard};

/// One language's client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Language {
    /// For messages.
    pub(super) name: &'static str,
    /// Its folder.
    pub(super) folder: &'static str,
    /// Programs it needs.
    tools: &'static [&'static str],
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Python,
    JavaScript,
    Rust,
    Go,
}

/// All languages.
pub(super) const LANGUAGES: &[Language] = &[
    Language { name: "Python", folder: "python", tools: &["python3"], kind: Kind::Python },
    Language {
        name: "JavaScript",
        folder: "javascript",
        tools: &["node", "npm"],
        kind: Kind::JavaScript,
    },
    Language { name: "Rust", folder: "rust", tools: &["cargo"], kind: Kind::Rust },
    Language { name: "Go", folder: "go", tools: &["go"], kind: Kind::Go },
];

/// A client that can be started.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    /// Its language.
    pub(super) name: &'static str,
    program: PathBuf,
    argument: Option<PathBuf>,
}

impl Ready {
    /// The command that runs it.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.argument);
        command
    }
}

impl Language {
    /// Installs what is missing below `place`. The error says why it cannot run.
    pub(super) fn prepare(&self, source: &Path, place: &Path, install: bool) -> Outcome<Ready> {
        if let Some(missing) = self.tools.iter().find(|tool| !guard::in_path(tool)) {
            return Err(format!("`{missing}` is not installed").into());
        }
        fs::create_dir_all(place)?;
        let ready = |program: PathBuf, argument: Option<PathBuf>| Ready {
            name: self.name,
            program,
            argument,
        };
        match self.kind {
            Kind::Python => {
                let python = place.join("bin/python");
                let list = source.join("requirements.txt");
                once(place, &list, install, || {
                    step(
                        "python3 -m venv",
                        Command::new("python3").args(["-m", "venv"]).arg(place),
                    )?;
                    let mut pip = Command::new(&python);
                    pip.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&list);
                    step("pip install", &mut pip)
                })?;
                Ok(ready(python, Some(source.join("check.py"))))
            }
            Kind::JavaScript => {
                let list = source.join("package.json");
                // Modules are looked up from where the program lies.
                fs::copy(source.join("check.js"), place.join("check.js"))?;
                once(place, &list, install, || {
                    fs::copy(&list, place.join("package.json"))?;
                    let mut npm = Command::new("npm");
                    npm.args(["install", "--no-package-lock", "--no-audit", "--no-fund"]);
                    step("npm install", npm.args(["--ignore-scripts"]).current_dir(place))
                })?;
                Ok(ready("node".into(), Some(place.join("check.js"))))
            }
            Kind::Rust => {
                once(place, &source.join("Cargo.lock"), install, || {
                    step("cargo fetch", &mut cargo_at(place, source, &["fetch", "--locked"]))
                })?;
                Ok(ready(place.join("debug/miroir-sdk-test"), None))
            }
            Kind::Go => {
                for file in ["go.mod", "main.go"] {
                    fs::copy(source.join(file), place.join(file))?;
                }
                once(place, &source.join("go.mod"), install, || {
                    step("go mod tidy", Command::new("go").args(["mod", "tidy"]).current_dir(place))
                })?;
                Ok(ready(place.join("check"), None))
            }
        }
    }

    /// Compiles what has to be compiled. Everything it needs was fetched by [`Self::prepare`]: a
    /// client that does not compile is one that failed.
    pub(super) fn build(&self, source: &Path, place: &Path) -> Outcome<()> {
        match self.kind {
            Kind::Python | Kind::JavaScript => Ok(()),
            Kind::Rust => {
                let arguments = ["build", "--locked", "--offline", "--quiet"];
                step("cargo build", &mut cargo_at(place, source, &arguments))
            }
            Kind::Go => step(
                "go build",
                Command::new("go").args(["build", "-o", "check", "."]).current_dir(place),
            ),
        }
    }
}

/// Runs `work` unless it was done before for the same list of packages.
fn once(
    place: &Path,
    list: &Path,
    install: bool,
    work: impl FnOnce() -> Outcome<()>,
) -> Outcome<()> {
    let wanted = fs::read(list)?;
    let stamp = place.join("installed");
    if fs::read(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    if !install {
        return Err("its packages are not installed, and --no-install was given".into());
    }
    work()?;
    fs::write(stamp, wanted)?;
    Ok(())
}

/// Runs one step of an installation; the error has the end of what it said.
fn step(name: &str, command: &mut Command) -> Outcome<()> {
    guard::check_stop()?;
    eprintln!("preparing clients: {name}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{name} cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    eprintln!("{text}");
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("no output");
    Err(format!("{name} failed ({}). Its last words: {last}", output.status).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Scratch;

    #[test]
    fn a_missing_tool_is_named() {
        let language = Language { tools: &["no-such-tool"], ..LANGUAGES[0] };
        let scratch = Scratch::new("sdk-test", false).unwrap();
        let error = language.prepare(scratch.path(), scratch.path(), true).unwrap_err();
        assert_eq!(error.to_string(), "`no-such-tool` is not installed");
    }

    #[test]
    fn packages_are_installed_once_per_list() {
        let scratch = Scratch::new("sdk-test", false).unwrap();
        let list = scratch.path().join("list");
        fs::write(&list, "a==1").unwrap();
        let mut runs = 0;
        let mut install = |allowed| {
            once(scratch.path(), &list, allowed, || {
                runs += 1;
                Ok(())
            })
        };
        assert!(install(false).unwrap_err().to_string().contains("--no-install"));
        install(true).unwrap();
        install(false).unwrap();
        fs::write(&list, "a==2").unwrap();
        assert!(install(false).is_err());
        install(true).unwrap();
        assert_eq!(runs, 2);
    }

    #[test]
    fn a_failed_step_says_why() {
        let script = ["-c", "echo cannot reach it >&2; exit 3"];
        let error = step("npm install", Command::new("sh").args(script)).unwrap_err().to_string();
        assert!(error.starts_with("npm install failed"), "{error}");
        assert!(error.ends_with("cannot reach it"), "{error}");
    }
}
