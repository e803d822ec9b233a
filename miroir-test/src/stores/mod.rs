//! The contract of the store traits, as tests every backend must pass.
//!
//! ```text
//! miroir_test::store_suite!(memory, async || miroir_store::memory::open());
//! ```
//!
//! expands to a module `memory` of `#[tokio::test]`s, each with stores of its own. The factory
//! answers anything that is [`Into<Fixture>`]: bare [`Stores`], or [`Fixture::keeping`] for a
//! backend that needs a directory or a process beside them. The caller needs `tokio` with the
//! multi-thread runtime and macros.
//!
//! The cases are public functions as well, so that a backend can run one under conditions of its
//! own; [`listing::agrees_with_the_model`] takes a [`Tape`] that `proptest` can shrink.

pub mod features;
pub mod identity;
pub mod indexes;
pub mod jobs;
pub mod keys;
pub mod leases;
pub mod listing;
pub mod pods;
pub mod records;
pub mod replicas;
pub mod rules;
pub mod settings;
mod tape;
pub mod tasks;
pub mod webhooks;

use std::any::Any;
use std::fmt;

use miroir_store::{Stores, TaskQuery};

pub use tape::Tape;

/// Tasks in every state, as version 0.1 stored them: the JSON of a record a line, by uid. How they
/// came about is in `tests/upgrade/scenario.rs`.
pub const TASKS_OF_0_1: &str = include_str!("../../fixtures/0.1/tasks.jsonl");

/// What the stores hold of tasks, indexes, replicas and versions, as text.
///
/// # Panics
/// If a store cannot be read.
pub async fn contents(stores: &Stores) -> String {
    let all = TaskQuery { limit: usize::MAX, ..TaskQuery::default() };
    format!(
        "{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}",
        stores.tasks.list(all).await.unwrap(),
        stores.tasks.unfinished().await.unwrap(),
        stores.tasks.counts().await.unwrap(),
        stores.indexes.list().await.unwrap(),
        stores.replicas.list().await.unwrap(),
        stores.settings_versions.list("movies").await.unwrap(),
    )
}

/// Stores under test and what must live as long as they do.
pub struct Fixture {
    /// The stores.
    pub stores: Stores,
    _kept: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").field("stores", &self.stores).finish_non_exhaustive()
    }
}

impl Fixture {
    /// Stores with something to drop after them, for example a temporary directory.
    pub fn keeping(stores: Stores, kept: impl Any + Send + Sync) -> Self {
        Self { stores, _kept: Box::new(kept) }
    }
}

impl From<Stores> for Fixture {
    fn from(stores: Stores) -> Self {
        Self::keeping(stores, ())
    }
}

/// Runs the contract of the store traits on a backend; see [`stores`](crate::stores).
#[macro_export]
macro_rules! store_suite {
    ($name:ident, $open:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $crate::store_suite! { @cases $open;
                tasks: round_trip, tasks_inserted_together_follow_each_other, uids_are_dense_under_concurrency, uids_are_never_reused,
                    counts_and_unfinished_follow_updates, prune_spares_what_is_not_over,
                    removal_spares_what_is_not_over, names_follow_a_swap,
                    lost_callers_do_no_harm, indexes_of_tasks_are_named_once;
                listing: agrees_with_the_model_for_many_seeds, pages_show_every_task_once;
                indexes: round_trip, one_creator_wins, no_update_is_lost, a_stale_delete_is_refused,
                    changes_are_made_together;
                replicas: round_trip, the_stronger_kind_stays, pending_rows_keep_their_tasks,
                    a_repair_spares_a_new_miss,
                    one_repair_clears, marks_are_all_or_nothing, forgetting_spares_deletions;
                settings: versions_never_go_back, the_highest_of_a_race_stays;
                keys: round_trip, one_of_a_uid_wins, the_first_keys_are_made_once,
                    no_change_is_lost;
                features: what_is_set_stays;
                identity: a_store_is_named_once, nodes_are_remembered,
                    the_topology_is_founded_once;
                rules: round_trip;
                webhooks: round_trip, the_most_is_the_most;
                leases: one_holds_it, one_of_many_claimants_wins, fences_never_go_back,
                    what_is_not_renewed_ends;
                jobs: they_come_in_order_and_resume, a_claim_that_ran_out_is_anothers,
                    no_job_is_claimed_twice;
                pods: a_word_needs_the_newest_epoch, a_word_is_kept_by_who_follows,
                    parts_have_epochs_of_their_own, notes_are_taken_once;
                records: aliases_flip, every_flip_has_one_winner,
                    sessions_remember_the_later_write, sessions_are_bounded, failures_of_queries_are_heard_of, a_key_is_used_once,
                    an_abandoned_key_has_one_heir, canaries_keep_their_last_runs,
                    cursors_never_go_back, overflow_is_bounded, tenants_round_trip,
                    rollovers_are_compared, search_pages_rotate_their_keys,
                    revoked_sessions_are_heard_of, failed_logins_are_counted,
                    buckets_let_in_what_they_may;
            }
        }
    };
    (@cases $open:expr; $($group:ident: $($case:ident),+;)+) => {
        $(
            mod $group {
                #[allow(unused_imports)]
                use super::*;

                $crate::store_suite! { @tests $open; $group; $($case),+ }
            }
        )+
    };
    (@tests $open:expr; $group:ident; $($case:ident),+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $case() {
                let open = $open;
                let fixture: $crate::stores::Fixture = open().await.into();
                $crate::stores::$group::$case(&fixture.stores).await;
            }
        )+
    };
}
