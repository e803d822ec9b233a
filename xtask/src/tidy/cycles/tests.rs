//! Cycles in small trees of source.

use super::*;

/// A crate of these files; its root is `src/lib.rs`.
fn tree(files: &[(&str, &str)]) -> Tree {
    let read = |name: &str| {
        files.iter().find(|(file, _)| *file == name).map(|(_, text)| (*text).to_owned())
    };
    let tree = Tree::load("src/lib.rs", &read);
    assert_eq!(tree.missing, Vec::<String>::new());
    tree
}

/// Edges as `from -> to`, without what stands around both.
fn edges(files: &[(&str, &str)]) -> Vec<String> {
    let tree = tree(files);
    let path = |id: usize| tree.modules[id].path.trim_start_matches("crate::").to_owned();
    let graph = Graph::of(&tree);
    let mut out: Vec<String> =
        graph.edges.keys().map(|(from, to)| format!("{} -> {}", path(*from), path(*to))).collect();
    out.sort();
    out
}

/// What is said about the cycles.
fn cycles(files: &[(&str, &str)]) -> Vec<String> {
    let tree = tree(files);
    let graph = Graph::of(&tree);
    graph.cycles(&tree).iter().map(|cycle| describe("x", &tree, &graph, cycle)).collect()
}

/// Edges of `a`'s text beside an empty `b` with a child `c`.
fn from_a(a: &str) -> Vec<String> {
    edges(&[
        ("src/lib.rs", "mod a;\nmod b;"),
        ("src/a.rs", a),
        ("src/b.rs", "pub mod c; pub struct B; pub fn f() {}"),
        ("src/b/c.rs", "pub struct C;"),
    ])
}

#[test]
fn a_cycle_names_its_edges_with_file_and_line() {
    let said = cycles(&[
        ("src/lib.rs", "mod a;\nmod b;"),
        ("src/a.rs", "\nuse crate::b::B;\npub struct A;\n"),
        ("src/b.rs", "use crate::a;\npub struct B;\nfn f() { a::f(); crate::a::g(); }"),
    ]);
    assert_eq!(
        said,
        ["x: modules of `crate` use each other in a circle: a, b (2 file(s), 6 lines)\n    \
          a -> b\n        src/a.rs:2: crate::b::B\n    \
          b -> a\n        src/b.rs:1: crate::a\n        src/b.rs:3: a::f\n        \
          src/b.rs:3: crate::a::g"]
    );
}

#[test]
fn modules_that_point_one_way_are_fine() {
    let files = [
        ("src/lib.rs", "mod a;\nmod b;\nmod c;\nuse c::C; fn main() { a::f(b::g()) }"),
        ("src/a.rs", "use crate::{b, c::C};"),
        ("src/b.rs", "use super::c::{self, C};"),
        ("src/c.rs", "pub struct C;"),
    ];
    assert_eq!(edges(&files), ["a -> b", "a -> c", "b -> c"]);
    assert_eq!(cycles(&files), Vec::<String>::new());
}

#[test]
fn a_cycle_at_depth_is_found() {
    let said = cycles(&[
        ("src/lib.rs", "mod a;"),
        ("src/a/mod.rs", "mod b;\nmod c;"),
        ("src/a/b/mod.rs", "mod d;"),
        ("src/a/b/d.rs", "use super::super::c::e::E;"),
        ("src/a/c.rs", "pub mod e;"),
        ("src/a/c/e.rs", "pub struct E; fn f() { crate::a::b::g() }"),
    ]);
    assert_eq!(said.len(), 1);
    assert!(said[0].starts_with("x: modules of `crate::a` use each other in a circle: b, c (4"));
    assert!(said[0].contains("b -> c\n        src/a/b/d.rs:1: super::super::c::e::E"));
    assert!(said[0].contains("c -> b\n        src/a/c/e.rs:1: crate::a::b::g"));
}

#[test]
fn a_cycle_through_a_third_module_is_one() {
    let said = cycles(&[
        ("src/lib.rs", "mod a; mod b; mod c; mod d;"),
        ("src/a.rs", "use crate::b::X;"),
        ("src/b.rs", "use crate::c::X; use crate::d::X;"),
        ("src/c.rs", "use crate::a::X;"),
        ("src/d.rs", ""),
    ]);
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("circle: a, b, c ("));
    assert!(!said[0].contains("-> d"));
}

#[test]
fn the_re_exports_of_a_parent_lead_to_the_child() {
    let files = |use_of_b: &'static str| {
        [
            ("src/lib.rs", "mod p;\npub use p::{B, C as Other};"),
            (
                "src/p/mod.rs",
                "mod b;\nmod c;\npub use self::b::B;\npub(crate) use c::C;\npub struct Own;",
            ),
            ("src/p/b.rs", "use super::c::C;\npub struct B;"),
            ("src/p/c.rs", use_of_b),
        ]
    };
    for hidden in ["use super::B;", "use crate::p::B;", "use crate::B;", "fn f(b: super::B) {}"] {
        assert_eq!(cycles(&files(hidden)).len(), 1, "{hidden}");
    }
    for other in ["use super::Own;", "use crate::p::Own;", "use crate::Other;", "use crate::Gone;"]
    {
        assert_eq!(cycles(&files(other)), Vec::<String>::new(), "{other}");
    }
}

#[test]
fn re_exports_of_re_exports_and_of_modules_are_followed() {
    let user = |text: &'static str| {
        edges(&[
            ("src/lib.rs", "mod a;\nmod b;\nuse b::inner::deep;\npub use b::*;"),
            ("src/a.rs", text),
            ("src/b/mod.rs", "pub mod inner;\npub use inner::Deep;"),
            ("src/b/inner.rs", "pub mod deep;\npub use deep::Deep;"),
            ("src/b/inner/deep.rs", "pub struct Deep;"),
        ])
    };
    for path in [
        "use crate::deep::Deep;",
        "use super::deep;",
        "use crate::Deep;",
        "use super::*;\nfn f(_: Deep) {}",
    ] {
        assert_eq!(user(path), ["a -> b"], "{path}");
    }
}

#[test]
fn a_function_of_the_parent_is_not_the_child_of_its_name() {
    let user = |text: &'static str| {
        edges(&[
            ("src/lib.rs", "mod a;\nmod merge;\nfn merge() {}"),
            ("src/a.rs", text),
            ("src/merge.rs", "pub fn merge() {}"),
        ])
    };
    assert_eq!(user("fn f() { super::merge() }"), Vec::<String>::new());
    assert_eq!(user("fn f() { super::merge::merge() }"), ["a -> merge"]);
}

#[test]
fn a_type_is_used_where_it_is_imported_and_a_module_where_it_is_named() {
    let said = |text: &'static str| {
        cycles(&[
            ("src/lib.rs", "mod a;\nmod b;"),
            ("src/a.rs", text),
            ("src/b.rs", "use super::a;\npub struct B;"),
        ])
        .join("\n")
    };
    assert!(!said("use super::b::B;\nfn f() { B::new() }").contains("src/a.rs:2"));
    assert!(said("use super::b;\nfn f() { b::B::new() }").contains("src/a.rs:2"));
}

#[test]
fn a_module_that_re_exports_is_what_is_used() {
    let files = [
        ("src/lib.rs", "mod a; mod b; mod c;"),
        ("src/a.rs", "use crate::b::C;"),
        ("src/b.rs", "pub use crate::c::C;"),
        ("src/c.rs", "pub struct C;"),
    ];
    assert_eq!(edges(&files), ["a -> b", "b -> c"]);
}

#[test]
fn nested_imports_are_unfolded() {
    let files = [
        ("src/lib.rs", "mod a; mod b; mod c; mod d; mod e; mod g;"),
        (
            "src/a.rs",
            "pub use crate::{b::{self, X as Y}, c::{d::{Z}, *}, g as _};\nuse super::e::W;",
        ),
        ("src/b.rs", ""),
        ("src/c.rs", ""),
        ("src/d.rs", ""),
        ("src/e.rs", ""),
        ("src/g.rs", ""),
    ];
    assert_eq!(edges(&files), ["a -> b", "a -> c", "a -> e", "a -> g"]);
}

#[test]
fn paths_in_code_count() {
    for text in [
        "fn f() { crate::b::f() }",
        "fn f(x: &super::b::B) {}",
        "impl From<crate::b::B> for X {}",
        "fn f() { let x = <crate::b::B as Default>::default(); }",
        "fn f() { g!(crate::b::B) }",
        "macro_rules! m { () => { $crate::b::f() } }",
        "fn f() { use crate::b; }",
        "#[serde(with = \"crate::b::c\")] struct S;",
        "#[derive(crate::b::Derive)] struct S;",
        "#[cfg(not(test))] use crate::b;",
        "#[cfg(any(test, unix))] use crate::b;",
        "fn f() -> impl Fn() + use<'_> { crate::b::f() }",
        "use super as up;\nfn f() { up::b::f() }",
        "mod inline { use super::super::b::B; }",
    ] {
        assert_eq!(from_a(text), ["a -> b"], "{text}");
    }
}

#[test]
fn an_inline_path_closes_a_cycle() {
    let said = cycles(&[
        ("src/lib.rs", "mod a; mod b;"),
        ("src/a.rs", "fn f(_: crate::b::B) {}"),
        ("src/b.rs", "pub struct B;\nimpl B { fn g() { super::a::f(B) } }"),
    ]);
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("src/b.rs:2: super::a::f"));
}

#[test]
fn comments_strings_and_other_crates_do_not_count() {
    for text in [
        "// use crate::b;\n/* crate::b::B */\n/// [`crate::b::B`]\n//! crate::b",
        "const X: &str = \"crate::b::B\"; const Y: &str = r#\"use \"crate::b\";\"#;",
        "const X: char = '\"'; // crate::b::B\nconst Y: char = '\"';",
        "use b::B; use ::b::C; fn f() { b::f(); ::b::f() }",
        "fn f<'a>(x: &'a str) -> Self::b { self.b.c(); Self::b::f() }",
        "pub(in crate::a) struct X; pub(super) struct Y;",
        "#[doc = \"see crate::b for more\"] struct X;",
    ] {
        assert_eq!(from_a(text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn tests_do_not_count() {
    for text in [
        "#[cfg(test)]\nuse crate::b::B;",
        "#[cfg(test)] mod tests { use crate::b::B; }",
        "#[cfg(test)] #[allow(dead_code)] pub(crate) fn f(x: [u8; 2]) -> u8 { crate::b::f() }",
        "#[cfg(all(test, unix))] mod more { use crate::b::B; }",
        "#[cfg(all(not(not(test))))] impl X { fn f() { crate::b::f() } }",
        "#[test] fn t() { crate::b::f() }",
        "#[tokio::test(start_paused = true)] async fn t() { crate::b::f() }",
        "#[cfg(test)] fn f<A, B: crate::b::Trait>() {}",
        "struct X { #[cfg(test)] b: crate::b::B, c: u8 }",
        "#![cfg(test)] use crate::b;",
        "#[cfg(test)] mod gone;\n#[cfg(test)] #[path = \"x.rs\"] mod gone_too;\nmod tests;",
    ] {
        assert_eq!(from_a(text), Vec::<String>::new(), "{text}");
    }
    // What comes after them does.
    for text in [
        "#[cfg(test)] use x::y;\nuse crate::b;",
        "#[cfg(test)] fn f() {} fn g() { crate::b::f() }",
        "struct X { #[cfg(test)] c: u8, b: crate::b::B }",
        "fn f() { match x { #[cfg(test)] A => {} _ => crate::b::f() } }",
        "#[cfg(test)] const X: [u8; 2] = [1, 2]; use crate::b;",
        "mod m { #![cfg(test)] fn f() { x() } } use crate::b;",
    ] {
        assert_eq!(from_a(text), ["a -> b"], "{text}");
    }
}

#[test]
fn siblings_in_braces_are_modules_too() {
    let text = "mod m { use super::n::N; pub mod o { } } mod n { use super::m::o; pub struct N; }";
    let said = cycles(&[("src/lib.rs", text)]);
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("circle: m, n (1 file(s), 2 lines)"), "{}", said[0]);
}

#[test]
fn files_are_found_where_the_compiler_looks() {
    let tree = tree(&[
        ("src/lib.rs", "mod a; mod b { mod c; } #[path = \"odd/name.rs\"] mod d;"),
        ("src/a.rs", "mod e; #[path = \"beside.rs\"] mod f;"),
        ("src/a/e/mod.rs", "mod g;"),
        ("src/a/e/g.rs", ""),
        ("src/beside.rs", ""),
        ("src/b/c.rs", ""),
        ("src/odd/name.rs", "mod h;"),
        ("src/odd/h.rs", ""),
    ]);
    let files: Vec<(&str, &str)> =
        tree.modules.iter().map(|module| (&module.path[5..], module.file.as_str())).collect();
    assert_eq!(
        files,
        [
            ("", "src/lib.rs"),
            ("::a", "src/a.rs"),
            ("::a::e", "src/a/e/mod.rs"),
            ("::a::e::g", "src/a/e/g.rs"),
            ("::a::f", "src/beside.rs"),
            ("::b", "src/lib.rs"),
            ("::b::c", "src/b/c.rs"),
            ("::d", "src/odd/name.rs"),
            ("::d::h", "src/odd/h.rs"),
        ]
    );
    let tree = Tree::load("lib.rs", &|name| (name == "lib.rs").then(|| "\nmod a;".to_owned()));
    assert_eq!(tree.missing, ["lib.rs:2: no file of module `a`"]);
}

#[test]
fn a_crate_with_a_cycle_fails_and_its_row_shows_the_size() {
    let read = |name: &str| {
        let text = match name {
            "x/src/lib.rs" => "mod a;\nmod b;\n",
            "x/src/a.rs" => "use crate::b;\n",
            "x/src/b.rs" => "use crate::a;\n\n",
            _ => return None,
        };
        Some(text.to_owned())
    };
    let package =
        Package { name: "x".into(), folder: "x/".into(), roots: vec!["x/src/lib.rs".into()] };
    let mut found = Findings::default();
    let row = check(&package, 40, &read, &mut found);
    assert_eq!(found.errors.len(), 1);
    let lines: Vec<String> = table(&[row])
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        lines,
        [
            "crate modules edges cycles largest lines with tests",
            "x 3 2 1 2 modules, 2 files, 3 lines 5 40",
        ]
    );
}
