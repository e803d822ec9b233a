//! What holds for every Rust file: its documentation, its length, how it calls services.

use super::Findings;

/// Longest Rust file.
const LINES: usize = 600;
/// Lines of an integration test.
const SUITE_LINES: usize = 900;
/// Length from which a Rust file is named.
const LONG: usize = 500;

pub(super) fn check(name: &str, text: &str, found: &mut Findings) {
    // Attributes of the whole file may come first.
    let first = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
    if !first.is_some_and(|line| line.starts_with("//!")) {
        found.errors.push(format!("{name}: does not begin with module documentation (`//!`)"));
    }
    let lines = text.lines().count();
    // A suite reads from top to bottom; it may be longer than what it tests.
    let most = if name.contains("/tests/") { SUITE_LINES } else { LINES };
    if lines > most {
        found.errors.push(format!("{name}: {lines} lines; split it (at most {most})"));
    } else if lines > LONG {
        found.warnings.push(format!("{name}: {lines} lines"));
    }
    clones(name, text, found);
}

/// A service that was polled ready is the one to call: a fresh clone is not ready.
fn clones(name: &str, text: &str, found: &mut Findings) {
    let mut function = String::new();
    for (number, line) in text.lines().enumerate() {
        if let Some(at) = line.find("fn ") {
            let name = line[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_');
            function = name.collect();
        }
        let fresh = line.trim_start().starts_with("let mut ")
            && line.contains(concat!("= self.inner", ".clone()"));
        if fresh && function == "call" {
            found.errors.push(format!(
                "{name}:{}: calls a clone that was never polled; swap it with `take_ready`",
                number + 1
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::errors;
    use super::*;

    #[test]
    fn files_begin_with_their_documentation_and_stay_short() {
        assert_eq!(errors(|f| check("a.rs", "//! What.\nfn a() {}\n", f)).len(), 0);
        assert_eq!(errors(|f| check("a.rs", "#![no_std]\n\n//! What.\n", f)).len(), 0);
        assert_eq!(errors(|f| check("a.rs", "fn a() {}\n", f)).len(), 1);
        let long = format!("//! What.\n{}", "\n".repeat(LINES));
        assert_eq!(errors(|f| check("a.rs", &long, f)).len(), 1);
    }

    #[test]
    fn clones_inside_call_are_refused() {
        let body = |function: &str| {
            format!(
                "//! x\nfn {function}(&mut self) {{\n  let mut inner = {};\n}}\n",
                concat!("self.inner", ".clone()")
            )
        };
        assert_eq!(errors(|found| check("a.rs", &body("call"), found)).len(), 1);
        assert_eq!(errors(|found| check("a.rs", &body("other"), found)).len(), 0);
    }
}
