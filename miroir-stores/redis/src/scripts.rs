//! The Lua scripts, each in a file of its own.

use std::sync::LazyLock;

/// A script.
#[derive(Debug)]
pub(crate) struct Script {
    /// Whether it writes.
    pub(crate) writes: bool,
    /// The text with what stands in front of it.
    pub(crate) text: &'static str,
    /// By which Redis knows it.
    hash: LazyLock<String>,
}

impl Script {
    /// Whether it is for a leader only.
    pub(crate) fn is_fenced(&self) -> bool {
        let everybodys: [&Self; 18] = [
            &LEASES_ACQUIRE,
            &LEASES_END,
            &PODS_REPORT,
            &PODS_LEAVE,
            &NOTES_PUT,
            // A claim is a fence of its own.
            &JOBS_PUT,
            &JOBS_CLAIM,
            &JOBS_ADVANCE,
            &JOBS_FINISH,
            &JOBS_FAIL,
            &JOBS_REMOVE,
            // Old tasks are old for everybody.
            &TASKS_PRUNE,
            // What a late writer leaves there does no harm; see `Table::is_the_leaders`.
            &RECORDS_PUT_ANY,
            &RECORDS_DELETE_ANY,
            &RECORDS_PRUNE,
            &LOGS_APPEND,
            &LOGS_TRIM,
            &BUCKETS_TAKE,
        ];
        self.writes && !everybodys.iter().any(|script| std::ptr::eq(*script, self))
    }

    /// By which Redis knows it: SHA-1 in hexadecimal.
    pub(crate) fn hash(&self) -> &str {
        &self.hash
    }
}

/// What stands in front of a migration.
pub(crate) const MIGRATE: &str = concat!(
    include_str!("scripts/common.lua"),
    include_str!("scripts/write.lua"),
    include_str!("scripts/migrate.lua"),
);

macro_rules! scripts {
    ($($writes:literal $name:ident = [$($file:literal),+];)+) => {
        $(
            pub(crate) static $name: Script = {
                const TEXT: &str =
                    concat!(include_str!("scripts/common.lua"), $(include_str!($file)),+);
                Script {
                    writes: $writes,
                    text: TEXT,
                    hash: LazyLock::new(|| redis::Script::new(TEXT).get_hash().to_owned()),
                }
            };
        )+

        #[cfg(test)]
        static ALL: &[&Script] = &[$(&$name),+];
    };
}

scripts! {
    true TASKS_INSERT = ["scripts/write.lua", "scripts/tasks.lua", "scripts/tasks_insert.lua"];
    true TASKS_UPDATE = ["scripts/write.lua", "scripts/tasks.lua", "scripts/tasks_update.lua"];
    true TASKS_REMOVE = ["scripts/write.lua", "scripts/tasks.lua", "scripts/tasks_remove.lua"];
    true TASKS_PRUNE = ["scripts/write.lua", "scripts/tasks.lua", "scripts/tasks_prune.lua"];
    true TASKS_SWAP = ["scripts/write.lua", "scripts/tasks.lua", "scripts/tasks_swap.lua"];
    false TASKS_LIST = ["scripts/tasks.lua", "scripts/tasks_list.lua"];
    false TASKS_COUNTS = ["scripts/tasks_counts.lua"];
    true INDEXES_CHANGE = ["scripts/write.lua", "scripts/indexes_change.lua"];
    false INDEXES_LIST = ["scripts/indexes_list.lua"];
    true REPLICAS_MARK = ["scripts/write.lua", "scripts/replicas_mark.lua"];
    true REPLICAS_CLEAR = ["scripts/write.lua", "scripts/replicas_clear.lua"];
    true REPLICAS_FORGET = ["scripts/write.lua", "scripts/replicas_forget.lua"];
    false REPLICAS_LIST = ["scripts/replicas_list.lua"];
    true SETTINGS_SET = ["scripts/write.lua", "scripts/settings_set.lua"];
    true SETTINGS_FORGET = ["scripts/write.lua", "scripts/settings_forget.lua"];
    true KEYS_INSERT = ["scripts/write.lua", "scripts/keys_insert.lua"];
    true KEYS_UPDATE = ["scripts/write.lua", "scripts/keys_update.lua"];
    true KEYS_DELETE = ["scripts/write.lua", "scripts/keys_delete.lua"];
    false KEYS_LIST = ["scripts/keys_list.lua"];
    true LEASES_ACQUIRE = ["scripts/write.lua", "scripts/leases_acquire.lua"];
    true LEASES_END = ["scripts/write.lua", "scripts/leases_end.lua"];
    true FEATURES_SET = ["scripts/write.lua", "scripts/features_set.lua"];
    true RULES_PUT = ["scripts/write.lua", "scripts/rules_put.lua"];
    true RULES_DELETE = ["scripts/write.lua", "scripts/rules_delete.lua"];
    true WEBHOOKS_PUT = ["scripts/write.lua", "scripts/webhooks_put.lua"];
    true WEBHOOKS_DELETE = ["scripts/write.lua", "scripts/webhooks_delete.lua"];
    true PODS_REPORT = ["scripts/write.lua", "scripts/pods.lua", "scripts/pods_report.lua"];
    true PODS_LEAVE = ["scripts/write.lua", "scripts/pods.lua", "scripts/pods_leave.lua"];
    true PODS_RAISE = ["scripts/write.lua", "scripts/pods.lua", "scripts/pods_raise.lua"];
    false PODS_ROSTER = ["scripts/pods.lua", "scripts/pods_roster.lua"];
    true JOBS_PUT = ["scripts/write.lua", "scripts/jobs.lua", "scripts/jobs_put.lua"];
    true JOBS_CLAIM = ["scripts/write.lua", "scripts/jobs.lua", "scripts/jobs_claim.lua"];
    true JOBS_ADVANCE = ["scripts/write.lua", "scripts/jobs.lua", "scripts/jobs_advance.lua"];
    true JOBS_FINISH = ["scripts/write.lua", "scripts/jobs.lua", "scripts/jobs_finish.lua"];
    true JOBS_FAIL = ["scripts/write.lua", "scripts/jobs.lua", "scripts/jobs_fail.lua"];
    true JOBS_REMOVE = ["scripts/write.lua", "scripts/jobs.lua", "scripts/jobs_remove.lua"];
    false JOBS_LIST = ["scripts/jobs.lua", "scripts/jobs_list.lua"];
    true RECORDS_PUT = ["scripts/write.lua", "scripts/records.lua", "scripts/records_put.lua"];
    true RECORDS_PUT_ANY = ["scripts/write.lua", "scripts/records.lua", "scripts/records_put.lua"];
    true RECORDS_DELETE = ["scripts/write.lua", "scripts/records.lua", "scripts/records_delete.lua"];
    true RECORDS_DELETE_ANY =
        ["scripts/write.lua", "scripts/records.lua", "scripts/records_delete.lua"];
    true RECORDS_PRUNE = ["scripts/write.lua", "scripts/records.lua", "scripts/records_prune.lua"];
    false RECORDS_LIST = ["scripts/records.lua", "scripts/records_list.lua"];
    false RECORDS_COUNT = ["scripts/records.lua", "scripts/records_count.lua"];
    true LOGS_APPEND = ["scripts/write.lua", "scripts/logs.lua", "scripts/logs_append.lua"];
    true LOGS_TRIM = ["scripts/write.lua", "scripts/logs.lua", "scripts/logs_trim.lua"];
    false LOGS_READ = ["scripts/logs.lua", "scripts/logs_read.lua"];
    false LOGS_SIZE = ["scripts/logs.lua", "scripts/logs_size.lua"];
    true BUCKETS_TAKE = ["scripts/write.lua", "scripts/buckets_take.lua"];
    true NOTES_PUT = ["scripts/write.lua", "scripts/notes_put.lua"];
    true NOTES_TAKE = ["scripts/write.lua", "scripts/notes_take.lua"];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_writes_looks_at_the_time_and_nothing_searches_all_keys() {
        let writes = include_str!("scripts/write.lua");
        for script in ALL.iter().copied() {
            assert_eq!(script.writes, script.text.contains(writes), "{}", script.text);
            for word in ["'SCAN'", "'KEYS'", "'HSCAN'", "'SSCAN'", "'ZSCAN'"] {
                assert!(!script.text.contains(word), "{word} in {}", script.text);
            }
        }
        assert!(MIGRATE.contains(writes));
    }
}
