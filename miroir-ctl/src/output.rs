//! Tables for people, JSON for programs.

use std::fmt;
use std::io::Write;

use crate::client::Answer;
use crate::error::{Code, CtlError};

/// Where it is printed, and how.
pub struct Output {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    json: bool,
    color: bool,
    /// The reader has gone, as `head` does.
    broken: bool,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("json", &self.json)
            .field("color", &self.color)
            .finish_non_exhaustive()
    }
}

/// How a cell is to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Doubtful,
    Bad,
    Heading,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\x1b[32m",
            Self::Doubtful => "\x1b[33m",
            Self::Bad => "\x1b[31m",
            Self::Heading => "\x1b[1m",
        }
    }
}

/// One cell of a table.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
    right: bool,
}

impl Cell {
    pub(crate) fn new(text: impl fmt::Display, tone: Tone) -> Self {
        // One row stays one row, whatever a name holds.
        let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
        Self { text: text.to_string().chars().map(clean).collect(), tone, right: false }
    }

    /// A number: digits stand under each other.
    pub(crate) fn number(number: impl fmt::Display) -> Self {
        Self { right: true, ..Self::new(number, Tone::Plain) }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::new(text, Tone::Plain)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// Rows under headings.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|h| Cell::new(h, Tone::Heading)).collect()] }
    }

    /// Rows without headings: a name and its value.
    pub(crate) fn plain() -> Self {
        Self { rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    fn render(&self, color: bool) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let size = |cell: &Cell| cell.text.chars().count();
        let widths: Vec<usize> = (0..columns)
            .map(|at| self.rows.iter().filter_map(|row| row.get(at)).map(size).max().unwrap_or(0))
            .collect();
        // A column of numbers has its heading on the right as well.
        let right: Vec<bool> = (0..columns)
            .map(|at| {
                self.rows.iter().skip(1).any(|row| row.get(at).is_some_and(|cell| cell.right))
            })
            .collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (at, cell) in row.iter().enumerate() {
                let gap = " ".repeat(widths[at] - size(cell));
                let text = paint(&cell.text, cell.tone, color);
                let (before, after) =
                    if right[at] { (gap, String::new()) } else { (String::new(), gap) };
                line.extend([before, text, after]);
                if at + 1 < row.len() {
                    line.push_str("  ");
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

fn paint(text: &str, tone: Tone, color: bool) -> String {
    if !color || tone == Tone::Plain || text.is_empty() {
        return text.to_owned();
    }
    format!("{}{text}\x1b[0m", tone.code())
}

impl Output {
    /// Prints answers to `out` and everything else to `err`.
    pub fn new(out: impl Write + 'static, err: impl Write + 'static, color: bool) -> Self {
        Self { out: Box::new(out), err: Box::new(err), json: false, color, broken: false }
    }

    pub(crate) fn set_json(&mut self, json: bool) {
        self.json = json;
    }

    /// Whether the server's own words are wanted.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Whether nobody reads any more.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    pub(crate) fn print(&mut self, text: &str) {
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        self.broken |= written.is_err();
    }

    pub(crate) fn line(&mut self, text: &str) {
        self.print(&format!("{text}\n"));
    }

    /// A line with a word that stands out.
    pub(crate) fn marked(&mut self, mark: &str, tone: Tone, text: &str) {
        let mark = paint(mark, tone, self.color);
        self.line(&format!("{mark}{text}"));
    }

    pub(crate) fn table(&mut self, table: &Table) {
        let text = table.render(self.color);
        self.print(&text);
    }

    /// The server's answer as it came.
    pub(crate) fn raw(&mut self, answer: &Answer) {
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        if !text.is_empty() {
            self.line(text.trim_end_matches('\n'));
        }
    }

    /// Something to know, beside the answer.
    pub(crate) fn note(&mut self, text: &str) {
        let _ = writeln!(self.err, "note: {text}");
    }

    pub(crate) fn complain(&mut self, error: &CtlError) {
        let _ = writeln!(self.err, "{error}");
    }

    /// How the program ends; a reader that has gone is no fault.
    pub(crate) fn finish(&mut self, code: Code) -> Code {
        let _ = self.err.flush();
        code
    }
}

/// Milliseconds for people.
pub(crate) fn millis(ms: f64) -> String {
    if ms >= 10_000.0 {
        format!("{:.1} s", ms / 1000.0)
    } else if ms >= 100.0 {
        format!("{ms:.0} ms")
    } else {
        format!("{ms:.1} ms")
    }
}

/// Bytes for people.
pub(crate) fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut units = ["kB", "MB", "GB", "TB"].into_iter().peekable();
    loop {
        value /= 1000.0;
        let unit = units.next().unwrap_or("PB");
        // What would be written as 1000 is 1 of the next unit.
        if value < 999.5 || units.peek().is_none() {
            return if value < 99.95 {
                format!("{value:.1} {unit}")
            } else {
                format!("{value:.0} {unit}")
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_colour_does_not_count() {
        let mut table = Table::new(&["NODE", "SHARDS", "STATUS"]);
        table.row(["a".into(), Cell::number(7), Cell::new("active", Tone::Good)]);
        table.row(["nöde-b".into(), Cell::number(1200), Cell::new("failed", Tone::Bad)]);
        assert_eq!(
            table.render(false),
            "NODE    SHARDS  STATUS\na            7  active\nnöde-b    1200  failed\n"
        );
        let colored = table.render(true);
        assert!(colored.contains("\x1b[32mactive\x1b[0m"), "{colored:?}");
        let stripped: String = ["\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[32m"]
            .iter()
            .fold(colored, |text, code| text.replace(code, ""));
        assert_eq!(stripped, table.render(false));
    }

    #[test]
    fn text_of_a_server_cannot_move_the_cursor() {
        let mut table = Table::plain();
        table.row([Cell::new("a\n\x1b[2Jb", Tone::Plain)]);
        assert_eq!(table.render(false), "a\u{fffd}\u{fffd}[2Jb\n");
    }

    #[test]
    fn bytes_have_a_unit() {
        let shown = [0, 999, 1000, 123_456, 999_600, 5_000_000_000, u64::MAX].map(bytes);
        assert_eq!(shown, ["0 B", "999 B", "1.0 kB", "123 kB", "1.0 MB", "5.0 GB", "18446744 TB"]);
    }

    #[test]
    fn times_have_two_or_three_digits_and_a_unit() {
        assert_eq!([millis(1.23), millis(123.4), millis(12_345.0)], ["1.2 ms", "123 ms", "12.3 s"]);
    }
}
