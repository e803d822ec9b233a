//! The configuration: what is taken prints as a file that means the same, without secrets; what is
//! not taken says why.

use miroir_server::config::{Config, Flags};

/// A file, and behind a line of `---` variables of the environment, one `NAME=value` a line.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (yaml, rest) = text.split_once("\n---\n").unwrap_or((text, ""));
    let environment: Vec<(String, String)> = rest
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    match Config::from_sources(Some(yaml), environment.clone(), &Flags::default()) {
        Err(errors) => {
            assert!(!errors.0.is_empty());
            assert!(errors.0.iter().all(|error| !error.problem.is_empty()), "{errors}");
        }
        Ok(config) => {
            if let Err(errors) = config.validate() {
                assert!(errors.iter().all(|error| !error.problem.is_empty()));
            }
            let _ = config.warnings();
            let printed = config.to_yaml();
            let secrets = [&config.master_key, &config.node_master_key, &config.admin.api_key];
            for secret in secrets {
                // A short one may be a part of some other word.
                let long =
                    secret.get().filter(|text| text.len() > 16 && !yaml_has_twice(data, text));
                assert!(long.is_none_or(|text| !printed.contains(text)), "a secret is printed");
            }
            let again = Config::from_yaml(&printed).expect("what is printed can be read");
            assert_eq!(again.to_yaml(), printed);
            // The order of the environment does not matter, but for one name given twice.
            let mut names: Vec<&str> = environment.iter().map(|(name, _)| name.as_str()).collect();
            names.sort_unstable();
            if names.windows(2).all(|pair| pair[0] != pair[1]) {
                let reversed = environment.into_iter().rev();
                let other = Config::from_sources(Some(yaml), reversed, &Flags::default());
                assert_eq!(other.as_ref(), Ok(&config));
            }
        }
    }
}

/// Whether a text is in the input more than once: then it is also the value of something public.
fn yaml_has_twice(data: &[u8], text: &str) -> bool {
    data.windows(text.len()).filter(|window| *window == text.as_bytes()).count() != 1
}
