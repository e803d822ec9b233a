//! Meilisearch's Rust client against the address in `MEILISEARCH_URL`.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Debug;
use std::time::Duration;

use meilisearch_sdk::client::Client;
use meilisearch_sdk::errors::Error as SdkError;
use meilisearch_sdk::key::Action;
use meilisearch_sdk::search::{SearchResults, Selectors};
use meilisearch_sdk::settings::Settings;
use meilisearch_sdk::task_info::TaskInfo;
use serde::{Deserialize, Serialize};
use serde_json::json;

const UID: &str = "sdk-films-rust";

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Film {
    id: u64,
    title: String,
    studio: String,
    year: u16,
}

fn films() -> Vec<Film> {
    [
        (1, "The Third Man", "london", 1949),
        (2, "Brief Encounter", "rank", 1945),
        (3, "The Red Shoes", "rank", 1948),
        (4, "The Fallen Idol", "london", 1948),
        (5, "Great Expectations", "rank", 1946),
        (6, "Odd Man Out", "rank", 1947),
    ]
    .map(|(id, title, studio, year)| Film { id, title: title.into(), studio: studio.into(), year })
    .into()
}

fn check<T: PartialEq + Debug>(what: &str, found: T, expected: T) {
    assert_eq!(found, expected, "{what}");
    println!("ok {what}");
}

/// Waits for a task, which has to succeed.
async fn done(client: &Client, task: TaskInfo) -> Result<(), SdkError> {
    let limit = Some(Duration::from_secs(60));
    let task = task.wait_for_completion(client, None, limit).await?;
    assert!(task.is_success(), "{task:?}");
    Ok(())
}

/// The code of an error, as Meilisearch spells it.
fn code<T>(outcome: Result<T, SdkError>) -> String {
    match outcome {
        Err(SdkError::Meilisearch(error)) => error.error_code.to_string(),
        Err(other) => other.to_string(),
        Ok(_) => "no error".to_owned(),
    }
}

fn ids(answer: &SearchResults<Film>) -> Vec<u64> {
    answer.hits.iter().map(|hit| hit.result.id).collect()
}

fn sorted(mut ids: Vec<u64>) -> Vec<u64> {
    ids.sort_unstable();
    ids
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("MEILISEARCH_URL")?;
    let client = Client::new(&url, Some(std::env::var("MEILISEARCH_API_KEY")?))?;

    // What a run that was stopped may have left.
    let limit = Some(Duration::from_secs(60));
    client.delete_index(UID).await?.wait_for_completion(&client, None, limit).await?;

    done(&client, client.create_index(UID, Some("id")).await?).await?;
    let index = client.get_index(UID).await?;
    check("create an index", index.primary_key.as_deref(), Some("id"));

    let settings =
        Settings::new().with_filterable_attributes(["studio"]).with_sortable_attributes(["year"]);
    done(&client, index.set_settings(&settings).await?).await?;
    check("settings", index.get_filterable_attributes().await?, vec!["studio".to_owned()]);

    done(&client, index.add_documents(&films(), None).await?).await?;
    check("index documents", index.get_stats().await?.number_of_documents, films().len());

    let found = index.search().with_query("man").execute::<Film>().await?;
    check("search", sorted(ids(&found)), vec![1, 6]);
    let found = index.search().with_query("encuonter").execute::<Film>().await?;
    check("search with a typo", ids(&found), vec![2]);
    let newest = index
        .search()
        .with_filter("studio = rank")
        .with_sort(&["year:desc"])
        .with_limit(2)
        .execute::<Film>()
        .await?;
    check("filter, sort and limit", ids(&newest), vec![3, 6]);
    let facets = index.search().with_facets(Selectors::Some(&["studio"])).execute::<Film>().await?;
    let studios = HashMap::from([("london".to_owned(), 2), ("rank".to_owned(), 4)]);
    check(
        "facets",
        facets.facet_distribution,
        Some(HashMap::from([("studio".to_owned(), studios)])),
    );

    let keys = client.get_keys().await?;
    let is_search = |actions: &[Action]| matches!(actions, [Action::Search]);
    let key = keys.results.iter().find(|key| is_search(&key.actions)).ok_or("no search key")?;
    let rules = json!({ UID: { "filter": "studio = london" } });
    let uid = key.uid.clone();
    let token = client.generate_tenant_token(uid, rules, Some(&key.key), None)?;
    let tenant = Client::new(&url, Some(token))?.index(UID);
    let found = tenant.search().execute::<Film>().await?;
    check("tenant token sees its part", sorted(ids(&found)), vec![1, 4]);
    let refused = code(tenant.get_documents::<Film>().await);
    check("tenant token cannot do more", refused.as_str(), "invalid_api_key");

    let (shoes, idol) =
        (index.search().with_query("shoes").build(), index.search().with_query("idol").build());
    let answers = client
        .multi_search()
        .with_search_query(shoes)
        .with_search_query(idol)
        .execute::<Film>()
        .await?;
    check("multi-search", answers.results.iter().map(ids).collect(), vec![vec![3], vec![4]]);

    done(&client, client.delete_index(UID).await?).await?;
    let gone = code(client.get_index(UID).await);
    check("delete the index", gone.as_str(), "index_not_found");
    Ok(())
}
