//! Reads the files that callgrind writes.
//!
//! The format is described in valgrind's manual ("Callgrind Format Specification"). What is read of
//! it: which function spent how many instructions itself, and how many were spent inside of each
//! call from one function to another. Names are compressed: `fn=(12) name` says it once, `fn=(12)`
//! means the same afterwards, for callers and callees alike.

use std::collections::HashMap;

use crate::Outcome;

/// A place in [`Profile::functions`].
pub(super) type Id = usize;

/// One function, as the binary names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Function {
    /// Its symbol, not demangled; an address where there is none.
    pub(super) symbol: String,
    /// Instructions of its own, without those of what it calls.
    pub(super) own: u64,
}

/// What was counted between two dumps.
#[derive(Clone, Debug, Default)]
pub(super) struct Profile {
    /// All functions that ran.
    pub(super) functions: Vec<Function>,
    /// Caller, callee, and the instructions of the callee and all it called on the caller's behalf.
    pub(super) calls: HashMap<(Id, Id), u64>,
}

impl Profile {
    /// Instructions of all functions.
    pub(super) fn total(&self) -> u64 {
        self.functions.iter().map(|function| function.own).sum()
    }

    /// Reads one file.
    ///
    /// # Errors
    /// Names the line that cannot be read. A file whose `totals:` are not what its lines sum up to
    /// is an error too.
    pub(super) fn parse(text: &str) -> Outcome<Self> {
        let mut reader = Reader::default();
        for (number, line) in text.lines().enumerate() {
            reader.line(line).ok_or_else(|| {
                format!("line {} of callgrind's file cannot be read: `{line}`", number + 1)
            })?;
        }
        let Reader { profile, totals, .. } = reader;
        match totals {
            Some(totals) if totals != profile.total() => Err(format!(
                "callgrind counted {totals} instructions, its file says where {} were spent",
                profile.total()
            )
            .into()),
            _ => Ok(profile),
        }
    }
}

#[derive(Debug)]
struct Reader {
    profile: Profile,
    /// Numbers of compressed names.
    named: HashMap<u32, Id>,
    by_symbol: HashMap<String, Id>,
    /// Columns before the counts: line, or instruction and line.
    positions: usize,
    /// The function whose lines these are.
    current: Option<Id>,
    /// The function that the next `calls=` goes to.
    callee: Option<Id>,
    /// Whether the next line of counts is what a call cost.
    inside_call: bool,
    totals: Option<u64>,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            profile: Profile::default(),
            named: HashMap::new(),
            by_symbol: HashMap::new(),
            positions: 1,
            current: None,
            callee: None,
            inside_call: false,
            totals: None,
        }
    }
}

impl Reader {
    /// `None` when the line is none of the format.
    fn line(&mut self, line: &str) -> Option<()> {
        let line = line.trim_end();
        let Some(first) = line.bytes().next() else { return Some(()) };
        if first.is_ascii_digit() || matches!(first, b'+' | b'-' | b'*') {
            return self.counts(line);
        }
        if first == b'#' {
            return Some(());
        }
        // The header's lines have a colon behind the key, the body's an equals sign.
        let (key, value) = line.split_at(line.find([':', '='])?);
        let (sign, value) = value.split_at(1);
        let value = value.trim();
        match (key, sign) {
            ("fn", "=") => self.current = Some(self.function(value)?),
            ("cfn", "=") => self.callee = Some(self.function(value)?),
            ("calls", "=") => self.inside_call = true,
            ("positions", ":") => self.positions = value.split(' ').count(),
            // The first event is the one that is counted.
            ("events", ":") if !value.starts_with("Ir") => return None,
            ("totals", ":") => self.totals = value.split(' ').next()?.parse().ok(),
            // Files and objects: `fl`, `fi`, `fe`, `ob`, `cfi`, `cfl`, `cob`. Jumps are not asked for.
            _ => {}
        }
        Some(())
    }

    fn counts(&mut self, line: &str) -> Option<()> {
        let count = line.split(' ').nth(self.positions);
        let count: u64 = count.map_or(Ok(0), str::parse).ok()?;
        let current = self.current?;
        if std::mem::take(&mut self.inside_call) {
            *self.profile.calls.entry((current, self.callee.take()?)).or_default() += count;
        } else {
            self.profile.functions.get_mut(current)?.own += count;
        }
        Some(())
    }

    /// `(12) name`, `(12)` or `name`.
    fn function(&mut self, text: &str) -> Option<Id> {
        let Some(rest) = text.strip_prefix('(') else { return Some(self.intern(text)) };
        let (number, name) = rest.split_once(')')?;
        let number = number.parse().ok()?;
        let name = name.trim();
        if name.is_empty() {
            return self.named.get(&number).copied();
        }
        let id = self.intern(name);
        self.named.insert(number, id);
        Some(id)
    }

    /// Levels of a recursion, `name'2`, are one function.
    fn intern(&mut self, name: &str) -> Id {
        let symbol = match name.rsplit_once('\'') {
            Some((symbol, level)) if level.bytes().all(|byte| byte.is_ascii_digit()) => symbol,
            _ => name,
        };
        if let Some(id) = self.by_symbol.get(symbol) {
            return *id;
        }
        let id = self.profile.functions.len();
        self.profile.functions.push(Function { symbol: symbol.to_owned(), own: 0 });
        self.by_symbol.insert(symbol.to_owned(), id);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cut out of a real file and made small: compressed names, a recursion, a call whose callee is
    /// named here for the first time, and counts that are left out where they are zero.
    const FILE: &str = "\
# callgrind format
version: 1
creator: callgrind-3.19.0
cmd:  ./server
part: 1

desc: Trigger: dump

positions: line
events: Ir
summary: 131


ob=(3) /usr/bin/server
fl=(1) ???
fn=(1) main
0 10
cob=(4) /lib/libc.so.6
cfi=(2) memcpy.S
cfn=(2) memcpy
calls=3 0
0 30
+2 5
cfn=(3) walk
calls=1 0
* 86

fn=(2)
0 30

fn=(3)
0 40
cfn=(4) walk'2
calls=1 0
0 46
0

fn=(4)
0 46

totals: 131
";

    fn own(profile: &Profile, symbol: &str) -> u64 {
        profile.functions.iter().filter(|f| f.symbol == symbol).map(|f| f.own).sum()
    }

    fn call(profile: &Profile, caller: &str, callee: &str) -> u64 {
        let at = |symbol| profile.functions.iter().position(|f| f.symbol == symbol).unwrap();
        profile.calls.get(&(at(caller), at(callee))).copied().unwrap_or(0)
    }

    #[test]
    fn own_counts_and_calls_are_told_apart() {
        let profile = Profile::parse(FILE).unwrap();
        assert_eq!(own(&profile, "main"), 15);
        assert_eq!(own(&profile, "memcpy"), 30);
        assert_eq!(call(&profile, "main", "memcpy"), 30);
        assert_eq!(profile.total(), 131);
    }

    #[test]
    fn a_recursion_is_one_function() {
        let profile = Profile::parse(FILE).unwrap();
        assert_eq!(profile.functions.len(), 3);
        assert_eq!(own(&profile, "walk"), 86);
        assert_eq!(call(&profile, "main", "walk"), 86);
        assert_eq!(call(&profile, "walk", "walk"), 46);
    }

    #[test]
    fn counts_stand_behind_as_many_positions_as_the_header_says() {
        let text = "positions: instr line\nevents: Ir\nfn=f\n0x10 5 7\n+3 * 2\n";
        assert_eq!(Profile::parse(text).unwrap().total(), 9);
    }

    #[test]
    fn a_file_that_is_cut_short_or_no_profile_is_refused() {
        let cut = FILE.replace("0 40\n", "");
        for (text, part) in [
            (cut.as_str(), "counted 131"),
            ("events: Ir\nfn=(7)\n", "line 2"),
            ("events: Ir\n0 4\n", "line 2"),
            ("events: Cycles\n", "line 1"),
            ("nonsense", "line 1"),
        ] {
            let message = Profile::parse(text).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
