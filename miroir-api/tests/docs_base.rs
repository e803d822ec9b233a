//! The address of the documentation is one per process, so this test has a process of its own.

use miroir_api::meili::{ApiError, set_docs_base};

#[test]
fn own_codes_link_below_the_base_that_was_set_first() {
    assert_eq!(ApiError::new("miroir_no_quorum", "").link, "/_miroir/errors#miroir_no_quorum");
    set_docs_base("https://docs.example.com/miroir/").unwrap();
    let link = ApiError::new("miroir_no_quorum", "").link;
    assert_eq!(link, "https://docs.example.com/miroir/errors#miroir_no_quorum");
    let link = ApiError::new("index_not_found", "").link;
    assert_eq!(link, "https://docs.meilisearch.com/errors#index_not_found");

    assert_eq!(set_docs_base("https://docs.example.com/miroir"), Ok(()));
    assert_eq!(set_docs_base("https://other.example"), Err("https://docs.example.com/miroir"));
    let link = ApiError::new("miroir_no_quorum", "").link;
    assert_eq!(link, "https://docs.example.com/miroir/errors#miroir_no_quorum");
}
