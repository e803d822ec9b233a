//! Nothing of a particular machine stands in the repository.

use super::Findings;

/// Texts that belong to one machine, in halves so that this file does not hold them.
const FORBIDDEN: &[(&str, &str)] = &[
    ("/op", "t/"),
    ("/wor", "k/"),
    ("/roo", "t/"),
    ("/home", "/"),
    ("index.crates", ".io"),
    ("static.crates", ".io"),
    ("registry.npmjs", ".org"),
    ("files.pythonhosted", ".org"),
    ("pypi", ".org"),
    ("proxy.golang", ".org"),
    ("ghcr", ".io/"),
    ("docker", ".io/"),
];

pub(super) fn check(name: &str, text: &str, found: &mut Findings) {
    if name.ends_with("Cargo.lock") {
        return;
    }
    for (number, line) in text.lines().enumerate() {
        for (head, tail) in FORBIDDEN {
            let word = format!("{head}{tail}");
            // A path from the root is a machine's; the same letters inside another path are not.
            let alone = line.match_indices(&word).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                !word.starts_with('/') || before.is_none_or(|c| !c.is_alphanumeric() && c != '.')
            });
            if alone {
                found.errors.push(format!("{name}:{}: names `{word}`", number + 1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::errors;
    use super::*;

    #[test]
    fn paths_of_machines_are_refused() {
        let word = FORBIDDEN[1].0.to_owned() + FORBIDDEN[1].1;
        assert_eq!(errors(|f| check("a.md", &format!("see {word}main"), f)).len(), 1);
        assert_eq!(errors(|f| check("a.md", &format!("see net{}x", &word[1..]), f)).len(), 0);
        assert_eq!(errors(|f| check("a.md", &format!("see tests{word}x"), f)).len(), 0);
        assert_eq!(errors(|f| check("Cargo.lock", &word, f)).len(), 0);
    }
}
