//! The tables of `benches/README.md`.

use std::fmt::Write as _;
use std::path::Path;

use crate::Outcome;

/// The lines between which the table of `cargo xtask bench NAME` is rewritten.
fn markers(name: &str) -> (String, String) {
    let begin = format!("<!-- {name}: begin (written by `cargo xtask bench {name}`) -->");
    (begin, format!("<!-- {name}: end -->"))
}

/// One measurement.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) what: String,
    /// Miroir's value.
    pub(crate) miroir: String,
    /// The other side's name and value; empty for none.
    pub(crate) other: String,
    /// Both compared; empty for none.
    pub(crate) ratio: String,
    /// What it should be; empty for none.
    pub(crate) target: String,
}

/// The table as Markdown.
pub(crate) fn render(rows: &[Row]) -> String {
    let mut out = String::from(
        "| measurement | Miroir | compared with | result | target |\n\
         | --- | ---: | ---: | ---: | --- |\n",
    );
    for row in rows {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            row.what, row.miroir, row.other, row.ratio, row.target
        );
    }
    out
}

/// Puts `table` between the markers that the file has for `name`.
pub(crate) fn write(path: &Path, name: &str, table: &str) -> Outcome<()> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let text = replace(&text, name, table).ok_or_else(|| {
        let (begin, end) = markers(name);
        format!("{} has lost the lines `{begin}` and `{end}`", path.display())
    })?;
    std::fs::write(path, text)?;
    Ok(())
}

fn replace(text: &str, name: &str, table: &str) -> Option<String> {
    let (begin, end) = markers(name);
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n\n{}\n\n{end}{after}", table.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let (begin, end) = markers("e2e");
        let text = format!("# A\n\n{begin}\nold\n{end}\n\nrest\n");
        let once = replace(&text, "e2e", "| new |\n").unwrap();
        assert_eq!(once, format!("# A\n\n{begin}\n\n| new |\n\n{end}\n\nrest\n"));
        assert_eq!(replace(&once, "e2e", "| new |").unwrap(), once);
        assert_eq!(replace("# A\n", "e2e", "| new |"), None);
        assert_eq!(replace(&text, "instructions", "| new |"), None);
    }

    #[test]
    fn the_repository_has_the_markers() {
        let readme = crate::build::root().join("benches/README.md");
        let text = std::fs::read_to_string(readme).unwrap();
        for name in ["e2e", "instructions", "writes"] {
            assert!(replace(&text, name, "x").is_some(), "{name}");
        }
    }
}
