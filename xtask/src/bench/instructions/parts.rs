//! Whose instructions they are: every function's own, given to one part of a request.
//!
//! A function that has a row in [`ROWS`] belongs to that row's part. Any other, most of them of
//! libraries, works for whoever called it: its own instructions are shared out among its callers as
//! callgrind counted the calls, and so on up to functions with a row. Allocator and copies of memory
//! have rows of their own, so that what they cost shows, whoever asks for it. The sum of all parts is
//! what callgrind counted.

use std::collections::HashMap;

use super::profile::{Id, Profile};

/// A part of what the server does for a request, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Edge,
    Decode,
    Plan,
    LeafCall,
    PageDecode,
    Merge,
    Render,
    Allocator,
    Copies,
    Rest,
}

impl Part {
    pub(super) const ALL: [Self; 10] = [
        Self::Edge,
        Self::Decode,
        Self::Plan,
        Self::LeafCall,
        Self::PageDecode,
        Self::Merge,
        Self::Render,
        Self::Allocator,
        Self::Copies,
        Self::Rest,
    ];

    /// Its name in the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Decode => "decode",
            Self::Plan => "plan, scatter",
            Self::LeafCall => "leaf call",
            Self::PageDecode => "page decode",
            Self::Merge => "merge",
            Self::Render => "render",
            Self::Allocator => "allocator",
            Self::Copies => "memmove",
            Self::Rest => "rest",
        }
    }
}

/// Which functions belong to a part, by the beginning of a path. `*::` stands for any of Miroir's own
/// crates. Of several rows for one path the longest counts.
const ROWS: &[(&str, Part)] = &[
    ("miroir_server::", Part::Edge),
    ("miroir_layers::edge::", Part::Edge),
    ("miroir_pipeline::http::edge::", Part::Edge),
    ("hyper::server::", Part::Edge),
    ("hyper::proto::h1::role::Server", Part::Edge),
    ("hyper_util::server::", Part::Edge),
    ("tower_http::", Part::Edge),
    ("*::http::", Part::Decode),
    ("*::operation::raw::", Part::Decode),
    // Whatever else is Miroir's own.
    ("*::", Part::Plan),
    ("*::leaf::", Part::LeafCall),
    ("*::node::", Part::LeafCall),
    ("hyper::client::", Part::LeafCall),
    ("hyper::proto::h1::role::Client", Part::LeafCall),
    ("hyper_util::client::", Part::LeafCall),
    ("*::merge::page::", Part::PageDecode),
    ("*::merge::details::", Part::PageDecode),
    ("*::merge::scan::", Part::PageDecode),
    ("*::merge::lex::", Part::PageDecode),
    ("*::merge::hit::", Part::PageDecode),
    ("*::merge::entry::", Part::PageDecode),
    ("*::merge::", Part::Merge),
    ("*::merge::render::", Part::Render),
    ("*::merge::response::", Part::Render),
    ("*::http::respond::", Part::Render),
    ("*::index::scatter::search::project::", Part::Render),
    // What these modules were called before, for servers built then (`--server`).
    ("*::merge::layout::", Part::PageDecode),
    ("*::merge::write::", Part::Render),
    ("*::merge::pages::", Part::Render),
    ("*::index::scatter::search::present::", Part::Render),
    ("mi_", Part::Allocator),
    ("_mi_", Part::Allocator),
    ("memcpy", Part::Copies),
    ("memmove", Part::Copies),
    ("__memcpy_", Part::Copies),
    ("__memmove_", Part::Copies),
];

/// Functions that belong to a part where nobody with a row calls them. The same generic code drives
/// connections of clients, below the server's own loop, and connections to nodes, which are tasks of
/// their own: all that is above them there is the runtime.
const ALONE: &[(&str, Part)] =
    &[("hyper::", Part::LeafCall), ("futures_util::future::future::map::Map", Part::LeafCall)];

/// Instructions of each part, in the order of [`Part::ALL`].
pub(super) type Shares = [f64; Part::ALL.len()];

/// Shares everything out.
pub(super) fn shares(profile: &Profile) -> Shares {
    let names: Vec<String> = profile
        .functions
        .iter()
        .map(|function| format!("{:#}", rustc_demangle::demangle(&function.symbol)))
        .collect();
    let mut rows: Vec<Option<Part>> = names.iter().map(|name| row(ROWS, name)).collect();
    let known = owners(profile, &rows);
    for ((part, owners), name) in rows.iter_mut().zip(&known).zip(&names) {
        if owners[Part::Rest as usize] > 0.5 {
            *part = part.or_else(|| row(ALONE, name));
        }
    }
    let owners = owners(profile, &rows);
    let mut out = Shares::default();
    for (function, owners) in profile.functions.iter().zip(&owners) {
        for (sum, share) in out.iter_mut().zip(owners) {
            *sum += function.own as f64 * share;
        }
    }
    out
}

/// For whom each function works: shares that sum up to 1.
fn owners(profile: &Profile, rows: &[Option<Part>]) -> Vec<Shares> {
    const ROUNDS: usize = 500;
    const CLOSE: f64 = 1e-6;
    let mut callers: HashMap<Id, Vec<(Id, f64)>> = HashMap::new();
    for ((caller, callee), cost) in &profile.calls {
        // What a function calls of itself says nothing of who it works for.
        if caller != callee && rows[*callee].is_none() && *cost > 0 {
            callers.entry(*callee).or_default().push((*caller, *cost as f64));
        }
    }
    let mut shared: Vec<(Id, Vec<(Id, f64)>)> = callers.into_iter().collect();
    shared.sort_unstable_by_key(|(id, _)| *id);
    for (_, callers) in &mut shared {
        callers.sort_unstable_by_key(|(id, _)| *id);
        let all: f64 = callers.iter().map(|(_, cost)| cost).sum();
        for (_, cost) in callers {
            *cost /= all;
        }
    }
    let mut owners = vec![Shares::default(); rows.len()];
    for (owner, row) in owners.iter_mut().zip(rows) {
        if let Some(part) = row {
            owner[*part as usize] = 1.0;
        }
    }
    // Functions call each other in circles, so shares are found step by step.
    for _ in 0..ROUNDS {
        let mut moved: f64 = 0.0;
        for (id, callers) in &shared {
            let mut new = Shares::default();
            for (caller, weight) in callers {
                for (sum, share) in new.iter_mut().zip(&owners[*caller]) {
                    *sum += share * weight;
                }
            }
            for (new, old) in new.iter().zip(&owners[*id]) {
                moved = moved.max((new - old).abs());
            }
            owners[*id] = new;
        }
        if moved < CLOSE {
            break;
        }
    }
    for owner in &mut owners {
        // Called by nobody that has a row: the threads' own loops.
        owner[Part::Rest as usize] += 1.0 - owner.iter().sum::<f64>();
    }
    owners
}

/// The part that `rows` give a function to.
fn row(rows: &[(&str, Part)], name: &str) -> Option<Part> {
    let mut best: Option<(usize, usize, Part)> = None;
    for (row, part) in rows {
        let Some(at) = find(name, row) else { continue };
        // The first path of a name says whose it is: `<theirs as ours::Trait>::method` is theirs.
        let better =
            best.is_none_or(|(first, length, _)| at < first || at == first && row.len() > length);
        if better {
            best = Some((at, row.len(), *part));
        }
    }
    best.map(|(_, _, part)| part)
}

/// Where a path that begins like `row` stands in `name`.
fn find(name: &str, row: &str) -> Option<usize> {
    let starts = |at: usize| {
        name[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
    };
    let Some(row) = row.strip_prefix("*::") else {
        return name.match_indices(row).map(|(at, _)| at).find(|at| starts(*at));
    };
    name.match_indices("miroir").map(|(at, _)| at).find(|at| {
        let path = name[*at..].split_once("::");
        starts(*at) && path.is_some_and(|(_, path)| path.starts_with(row))
    })
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// A profile of functions, and calls between them by their names.
    fn profile(functions: &[(&str, u64)], calls: &[(&str, &str, u64)]) -> Profile {
        let mut text = String::from("events: Ir\n");
        for (name, own) in functions {
            let _ = write!(text, "fn={name}\n0 {own}\n");
            for (_, callee, cost) in calls.iter().filter(|(caller, ..)| caller == name) {
                let _ = write!(text, "cfn={callee}\ncalls=1 0\n0 {cost}\n");
            }
        }
        Profile::parse(&text).unwrap()
    }

    fn share(profile: &Profile, part: Part) -> f64 {
        shares(profile)[part as usize]
    }

    const EDGE: &str = "miroir_layers::edge::admission";
    const MERGE: &str = "miroir::merge::order::compare";

    #[test]
    fn a_library_works_for_its_callers() {
        let profile = profile(
            &[(EDGE, 10), (MERGE, 20), ("serde_json::read", 40), ("memchr::find", 8)],
            &[
                (EDGE, "serde_json::read", 12),
                (MERGE, "serde_json::read", 36),
                ("serde_json::read", "memchr::find", 8),
            ],
        );
        assert!((share(&profile, Part::Edge) - (10.0 + 10.0 + 2.0)).abs() < 1e-3);
        assert!((share(&profile, Part::Merge) - (20.0 + 30.0 + 6.0)).abs() < 1e-3);
        assert!((shares(&profile).iter().sum::<f64>() - 78.0).abs() < 1e-3);
    }

    #[test]
    fn what_nobody_with_a_row_calls_is_the_rest() {
        let profile = profile(
            &[("start", 5), ("walk", 7), ("step", 9), (EDGE, 1)],
            &[("start", "walk", 16), ("walk", "step", 90), ("step", "walk", 70), ("walk", EDGE, 1)],
        );
        assert!((share(&profile, Part::Rest) - 21.0).abs() < 1e-3);
        assert!((share(&profile, Part::Edge) - 1.0).abs() < 1e-3);
    }

    #[test]
    fn code_that_drives_connections_of_both_sides_belongs_to_the_side_it_runs_for() {
        // Two instances of one function, one name but for the hash.
        let [theirs, ours] = [1, 2].map(|n| format!("_ZN5hyper5proto4poll17h000000000000000{n}E"));
        let profile = profile(
            &[(EDGE, 1), (&theirs, 8), ("run_task", 2), (&ours, 16), ("read", 40)],
            &[
                (EDGE, &theirs, 18),
                (&theirs, "read", 10),
                ("run_task", &ours, 46),
                (&ours, "read", 30),
            ],
        );
        assert!((share(&profile, Part::Edge) - (1.0 + 8.0 + 10.0)).abs() < 1e-3);
        assert!((share(&profile, Part::LeafCall) - (16.0 + 30.0)).abs() < 1e-3);
        assert!((share(&profile, Part::Rest) - 2.0).abs() < 1e-3);
    }

    #[test]
    fn the_first_path_of_a_name_says_whose_it_is_and_the_longest_row_counts() {
        for (name, part) in [
            ("miroir::merge::page::Page::decode", Some(Part::PageDecode)),
            ("miroir_core::merge::page::Page::decode", Some(Part::PageDecode)),
            ("miroir_core::merge::lex::value_end", Some(Part::PageDecode)),
            ("miroir_core::merge::hits::Heads::load", Some(Part::Merge)),
            ("miroir_core::merge::response::write_search", Some(Part::Render)),
            ("core::ptr::drop_in_place<miroir::node::client::Client>", Some(Part::LeafCall)),
            ("<miroir::http::decode::Decode as miroir::node::Call>::call", Some(Part::Decode)),
            ("<serde_json::Map as my_miroir::node::Call>::call", None),
            ("semi_colon", None),
        ] {
            assert_eq!(row(ROWS, name), part, "{name}");
        }
    }

    #[test]
    fn a_circle_of_calls_belongs_to_whoever_enters_it() {
        let profile = profile(
            &[(MERGE, 1), ("walk", 7), ("step", 9)],
            &[(MERGE, "walk", 16), ("walk", "step", 90), ("step", "walk", 70)],
        );
        assert!((share(&profile, Part::Merge) - 17.0).abs() < 1e-3);
    }

    #[test]
    fn allocations_and_copies_stand_apart() {
        let profile = profile(
            &[(MERGE, 1), ("mi_malloc", 30), ("_mi_page_malloc", 2), ("__memcpy_avx_unaligned", 9)],
            &[
                (MERGE, "mi_malloc", 32),
                ("mi_malloc", "_mi_page_malloc", 2),
                (MERGE, "__memcpy_avx_unaligned", 9),
            ],
        );
        assert!((share(&profile, Part::Allocator) - 32.0).abs() < 1e-3);
        assert!((share(&profile, Part::Copies) - 9.0).abs() < 1e-3);
    }
}
