//! The tables of `benches/README.md`.

use std::fmt::Write as _;
use std::path::Path;

use crate::Outcome;

/// The lines between which a table is rewritten.
const BEGIN: &str = "<!-- e2e: begin (written by `cargo xtask bench e2e`) -->";
const END: &str = "<!-- e2e: end -->";

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

/// Puts `table` between the markers of the file.
pub(crate) fn write(path: &Path, table: &str) -> Outcome<()> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let text = replace(&text, table)
        .ok_or_else(|| format!("{} has lost the lines `{BEGIN}` and `{END}`", path.display()))?;
    std::fs::write(path, text)?;
    Ok(())
}

fn replace(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", table.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = format!("# A\n\n{BEGIN}\nold\n{END}\n\nrest\n");
        let once = replace(&text, "| new |\n").unwrap();
        assert_eq!(once, format!("# A\n\n{BEGIN}\n\n| new |\n\n{END}\n\nrest\n"));
        assert_eq!(replace(&once, "| new |").unwrap(), once);
        assert_eq!(replace("# A\n", "| new |"), None);
    }

    #[test]
    fn the_repository_has_the_markers() {
        let readme = crate::build::root().join("benches/README.md");
        let text = std::fs::read_to_string(readme).unwrap();
        assert!(replace(&text, "x").is_some());
    }
}
