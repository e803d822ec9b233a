//! The documentation of a layer's module has the same sections everywhere.

use super::Findings;

/// Sections every layer's module documentation has.
const HEADINGS: [&str; 6] = ["Stage", "Order", "Context", "Errors", "Metrics", "Example"];

pub(super) fn check(name: &str, text: &str, found: &mut Findings) {
    let Some(rest) = name.strip_prefix("miroir-layers/src/") else { return };
    let parts: Vec<&str> = rest.split('/').collect();
    // stage/layer.rs or stage/layer/mod.rs.
    let module = matches!(parts.as_slice(), [_, file] if *file != "mod.rs")
        || matches!(parts.as_slice(), [_, _, "mod.rs"]);
    let is_layer =
        text.lines().any(|line| line.trim_start().starts_with("impl") && line.contains("Layer<"));
    if !module || !is_layer {
        return;
    }
    let missing: Vec<&str> = HEADINGS
        .into_iter()
        .filter(|heading| !text.lines().any(|line| line.trim_end() == format!("//! # {heading}")))
        .collect();
    if !missing.is_empty() {
        found.errors.push(format!("{name}: no section {} in its docs", missing.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::super::errors;
    use super::*;

    #[test]
    fn layers_have_all_sections() {
        let layer = |docs: &str| format!("//! What.\n{docs}\nimpl<S> Layer<S> for A {{}}\n");
        let all = format!("//! # {}\n", HEADINGS.join("\n//! # "));
        let check = |name: &str, docs: &str| {
            errors(|found| super::check(name, &layer(docs), found)).join("; ")
        };
        assert_eq!(check("miroir-layers/src/index/coalesce/mod.rs", &all), "");
        assert!(check("miroir-layers/src/index/coalesce.rs", "").contains("Stage, Order"));
        let one_less = all.replace("//! # Metrics\n", "");
        assert!(check("miroir-layers/src/node/load.rs", &one_less).contains("Metrics"));
        assert_eq!(check("miroir-layers/src/index/mod.rs", ""), "");
        assert_eq!(check("miroir/src/stack.rs", ""), "");
    }
}
