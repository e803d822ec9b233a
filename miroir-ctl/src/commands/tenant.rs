//! `tenant`: which API key belongs to which tenant.

use std::io::Read;

use http::Method;
use miroir_api::hexadecimal;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::alias::rows;
use crate::cli::Tenant;
use crate::client::{Client, encode};
use crate::error::{Code, CtlError};
use crate::output::{Cell, Output, Table};

const PATH: &str = "/_miroir/tenants";

pub(crate) async fn run(
    tenant: Tenant,
    client: &Client,
    output: &mut Output,
) -> Result<Code, CtlError> {
    let (answer, said) = match tenant {
        Tenant::List => (client.get(PATH).await?, None),
        Tenant::Add { api_key, tenant, group } => {
            let mut body = json!({ "api_key": key(api_key)?, "tenant": tenant });
            if let Some(group) = group {
                body["group"] = group.into();
            }
            let answer = client.ask(Method::POST, PATH, Some(&body)).await?;
            (answer, Some(format!("the key is that of tenant {tenant}")))
        }
        Tenant::Remove { api_key, hash } => {
            let hash = match (hash, api_key) {
                (Some(hash), _) => hash,
                (None, Some(text)) => sha256(&key(text)?),
                (None, None) => return Err(no_key()),
            };
            let path = format!("{PATH}/{}", encode(&hash));
            let answer = client.ask(Method::DELETE, &path, None).await?;
            (answer, Some("the key belongs to no tenant any more".to_owned()))
        }
    };
    if output.json() {
        output.raw(&answer);
        return Ok(Code::Done);
    }
    match said {
        Some(said) => output.line(&said),
        None => list(&answer.read()?, output),
    }
    Ok(Code::Done)
}

fn no_key() -> CtlError {
    CtlError::usage(
        "the API key is empty",
        "give --api-key KEY, or --api-key - and the key on standard input",
    )
}

/// The key itself, or what standard input holds.
fn key(given: String) -> Result<String, CtlError> {
    if given != "-" {
        return if given.is_empty() { Err(no_key()) } else { Ok(given) };
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|_| no_key())?;
    let text = text.trim();
    if text.is_empty() { Err(no_key()) } else { Ok(text.to_owned()) }
}

/// What a key is known by: its SHA-256 in hexadecimal digits.
fn sha256(key: &str) -> String {
    hexadecimal(&Sha256::digest(key.as_bytes()))
}

fn list(answer: &Value, output: &mut Output) {
    let rows = rows(answer, "tenants");
    if rows.is_empty() {
        output.line("no tenants");
        return;
    }
    let mut table = Table::new(&["TENANT", "GROUP", "KEY HASH"]);
    for row in rows {
        let text = |names: [&str; 2]| {
            names.iter().find_map(|name| row[*name].as_str()).unwrap_or("-").to_owned()
        };
        let group = [&row["group"], &row["group_id"]].into_iter().find_map(Value::as_u64);
        table.row([
            text(["tenant", "tenant_id"]).into(),
            Cell::from(group.map_or_else(|| "by hash".to_owned(), |group| group.to_string())),
            text(["api_key_hash", "hash"]).into(),
        ]);
    }
    output.table(&table);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_its_sha_256() {
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256("abc"), known);
    }
}
