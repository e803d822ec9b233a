//! Where keys come from: the environment, else the credentials file, else a flag.
//!
//! The operators' key opens the admin API and nothing else, so some commands need a client's key.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::cli::Connection;
use crate::error::CtlError;

/// The variables that hold the operators' key, and a client's.
const ADMIN: &[&str] = &["MIROIR_ADMIN_API_KEY"];
const CLIENT: &[&str] = &["MIROIR_CLIENT_KEY", "MIROIR_MASTER_KEY"];
/// Where a Miroir is if nobody says anything.
const DEFAULT_URL: &str = "http://127.0.0.1:7700";

/// Where a key was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Environment(&'static str),
    File(PathBuf),
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) | Self::Flag(name) => f.write_str(name),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What was found.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) url: String,
    pub(crate) admin: Option<(String, Source)>,
    pub(crate) client: Option<(String, Source)>,
    /// For people, on standard error.
    pub(crate) notes: Vec<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source =
            |key: &Option<(String, Source)>| key.as_ref().map(|(_, source)| source.clone());
        f.debug_struct("Credentials")
            .field("url", &self.url)
            .field("admin", &source(&self.admin))
            .field("client", &source(&self.client))
            .finish_non_exhaustive()
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    admin_api_key: Option<String>,
    client_key: Option<String>,
    url: Option<String>,
}

/// Looks in the places in their order.
pub(crate) fn find(
    connection: &Connection,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Credentials, CtlError> {
    let named = connection.credentials.clone();
    let usual = || {
        let home = |name| environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let base = home("XDG_CONFIG_HOME").or_else(|| Some(home("HOME")?.join(".config")))?;
        Some(base.join("miroir").join("credentials"))
    };
    let mut notes = Vec::new();
    let (file, path) = match named.clone().or_else(usual) {
        Some(path) => (read(&path, named.is_some(), &mut notes)?, path),
        None => (File::default(), PathBuf::new()),
    };
    let mut pick = |variables: &[&'static str],
                    of_file: Option<String>,
                    flag: &'static str,
                    value: &Option<String>| {
        let given = |key: Option<String>| key.filter(|key| !key.trim().is_empty());
        let of_variable =
            |name: &&'static str| Some((given(environment(name))?, Source::Environment(name)));
        let found = variables
            .iter()
            .find_map(of_variable)
            .or_else(|| Some((given(of_file)?, Source::File(path.clone()))))
            .or_else(|| Some((given(value.clone())?, Source::Flag(flag))));
        if let Some((key, source)) = &found
            && value.as_ref().is_some_and(|value| value != key)
        {
            notes.push(format!("{flag} is not used: the key of {source} comes first"));
        }
        found
    };
    let admin = pick(ADMIN, file.admin_api_key, "--admin-key", &connection.admin_key);
    let client = pick(CLIENT, file.client_key, "--client-key", &connection.client_key);
    let url = connection.url.clone().or(file.url).unwrap_or_else(|| DEFAULT_URL.to_owned());
    Ok(Credentials { url, admin, client, notes })
}

fn read(path: &Path, required: bool, notes: &mut Vec<String>) -> Result<File, CtlError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => {
            return Ok(File::default());
        }
        Err(error) => {
            return Err(CtlError::usage(
                format!("the credentials file {} cannot be read: {error}", path.display()),
                "check --credentials, MIROIR_CREDENTIALS and the file's permissions",
            ));
        }
    };
    if open_to_others(path) {
        notes.push(format!("{} can be read by other users; `chmod 600` it", path.display()));
    }
    toml::from_str(&text).map_err(|error| {
        // The text around the fault is not shown: it may be the key.
        CtlError::usage(
            format!("the credentials file {} is not valid: {}", path.display(), error.message()),
            "it has lines such as `admin_api_key = \"…\"`, `client_key = \"…\"` and `url = \"http://host:7700\"`",
        )
    })
}

#[cfg(unix)]
fn open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn open_to_others(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::Cli;
    use crate::error::Code;

    fn found(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Credentials, CtlError> {
        let cli = Cli::parse_from([&["miroir-ctl"], arguments, &["status"]].concat());
        let variables: std::collections::HashMap<_, _> = variables.iter().copied().collect();
        find(&cli.connection, |name| variables.get(name).map(|value| (*value).to_owned()))
    }

    fn file(text: &str) -> (tempfile::TempDir, String) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(".config").join("miroir");
        std::fs::create_dir_all(&path).unwrap();
        let path = path.join("credentials");
        std::fs::write(&path, text).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let name = home.path().to_str().unwrap().to_owned();
        (home, name)
    }

    #[test]
    fn the_environment_comes_first() {
        let (_keep, home) = file("admin_api_key = \"of-the-file\"");
        let all =
            found(&["--admin-key", "of-the-flag"], &[(ADMIN[0], "of-the-env"), ("HOME", &home)]);
        let all = all.unwrap();
        assert_eq!(all.admin, Some(("of-the-env".to_owned(), Source::Environment(ADMIN[0]))));
        assert_eq!(
            all.notes,
            ["--admin-key is not used: the key of MIROIR_ADMIN_API_KEY comes first"]
        );
        assert!(!format!("{all:?}").contains("of-the-env"));
    }

    #[test]
    fn the_file_comes_second() {
        let (_keep, home) = file("admin_api_key = \"of-the-file\"\nurl = \"http://a:1\"");
        let all =
            found(&["--admin-key", "of-the-file"], &[(ADMIN[0], ""), ("HOME", &home)]).unwrap();
        let (key, source) = all.admin.unwrap();
        assert_eq!(key, "of-the-file");
        assert!(matches!(source, Source::File(_)));
        assert_eq!((all.url.as_str(), all.notes.len()), ("http://a:1", 0));
        let config = format!("{home}/.config");
        assert!(found(&[], &[("XDG_CONFIG_HOME", &config)]).unwrap().admin.is_some());
        let flag = found(&["--url", "http://b:2"], &[("HOME", &home)]).unwrap();
        assert_eq!(flag.url, "http://b:2");
    }

    #[test]
    fn the_flag_comes_last() {
        let all = found(&["--admin-key", "of-the-flag"], &[("HOME", "/nowhere")]).unwrap();
        assert_eq!(all.admin, Some(("of-the-flag".to_owned(), Source::Flag("--admin-key"))));
        assert_eq!(all.url, DEFAULT_URL);
        assert_eq!(found(&[], &[]).unwrap().admin, None);
    }

    #[test]
    fn a_clients_key_is_found_in_the_same_places() {
        let (_keep, home) = file("client_key = \"of-the-file\"");
        let key = |arguments: &[&str], variables: &[(&str, &str)]| {
            found(arguments, variables).unwrap().client.map(|(key, _)| key)
        };
        let both = [("MIROIR_MASTER_KEY", "master"), ("MIROIR_CLIENT_KEY", "client")];
        assert_eq!(key(&[], &both).as_deref(), Some("client"));
        assert_eq!(key(&[], &both[..1]).as_deref(), Some("master"));
        assert_eq!(key(&["--client-key", "x"], &[("HOME", &home)]).as_deref(), Some("of-the-file"));
        assert_eq!(key(&["--client-key", "x"], &[]).as_deref(), Some("x"));
        assert_eq!(key(&[], &[("MIROIR_ADMIN_API_KEY", "admin")]), None);
    }

    #[test]
    fn what_is_wrong_with_the_file_is_said_without_its_content() {
        let (_keep, home) = file("admin_api_key = secret-without-quotes");
        let error = found(&[], &[("HOME", &home)]).unwrap_err();
        assert_eq!(error.code(), Code::Usage);
        assert!(!error.to_string().contains("secret-without"), "{error}");
        let (_keep, home) = file("adminkey = \"x\"");
        assert!(found(&[], &[("HOME", &home)]).unwrap_err().to_string().contains("adminkey"));
        let error = found(&["--credentials", "/nowhere/at-all"], &[]).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at-all"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_is_remarked() {
        use std::os::unix::fs::PermissionsExt;
        let (keep, home) = file("admin_api_key = \"k\"");
        let path = keep.path().join(".config/miroir/credentials");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let all = found(&[], &[("HOME", &home)]).unwrap();
        assert!(all.notes[0].contains("chmod 600"), "{:?}", all.notes);
    }
}
