//! The one table of error codes: Meilisearch's and Miroir's own.

use super::error_type::ErrorType;
use super::error_type::ErrorType::{Auth, Internal, InvalidRequest, System};

/// Meilisearch's codes that are not `400 invalid_request`, after version 1.50.
const MEILISEARCH: &[(&str, u16, ErrorType)] = &[
    ("unretrievable_document", 400, Internal),
    ("invalid_s_3_snapshot_request", 400, Internal),
    ("invalid_s_3_snapshot_parameters", 400, Internal),
    ("missing_authorization_header", 401, Auth),
    ("missing_master_key", 401, Auth),
    ("invalid_api_key", 403, Auth),
    ("remote_invalid_api_key", 403, Auth),
    ("api_key_not_found", 404, InvalidRequest),
    ("batch_not_found", 404, InvalidRequest),
    ("chat_not_found", 404, InvalidRequest),
    ("document_not_found", 404, InvalidRequest),
    ("dump_not_found", 404, InvalidRequest),
    ("dynamic_search_rule_not_found", 404, InvalidRequest),
    ("index_not_found", 404, InvalidRequest),
    ("render_document_not_found", 404, InvalidRequest),
    ("task_file_not_found", 404, InvalidRequest),
    ("task_not_found", 404, InvalidRequest),
    ("webhook_not_found", 404, InvalidRequest),
    ("api_key_already_exists", 409, InvalidRequest),
    ("dump_already_processing", 409, InvalidRequest),
    ("index_already_exists", 409, InvalidRequest),
    ("import_task_already_received", 412, InvalidRequest),
    ("import_task_unknown_remote", 412, InvalidRequest),
    ("network_version_mismatch", 412, InvalidRequest),
    ("receive_import_finished_unknown_remote", 412, InvalidRequest),
    ("payload_too_large", 413, InvalidRequest),
    ("invalid_content_type", 415, InvalidRequest),
    ("missing_content_type", 415, InvalidRequest),
    ("unsupported_media_type", 415, InvalidRequest),
    ("io_error", 422, System),
    ("no_space_left_on_device", 422, System),
    ("too_many_open_files", 422, System),
    ("requires_enterprise_edition", 451, InvalidRequest),
    ("database_size_limit_reached", 500, Internal),
    ("dump_process_failed", 500, Internal),
    ("index_creation_failed", 500, Internal),
    ("internal", 500, Internal),
    ("invalid_state", 500, Internal),
    ("invalid_store_file", 500, Internal),
    ("unimplemented_external_function_calling", 501, InvalidRequest),
    ("unimplemented_multi_choice_chat_completions", 501, InvalidRequest),
    ("unimplemented_non_streaming_chat_completions", 501, InvalidRequest),
    ("remote_bad_response", 502, System),
    ("remote_could_not_send_request", 502, System),
    ("remote_remote_error", 502, System),
    ("remote_timeout", 502, System),
    ("s_3_snapshot_server_error", 502, Internal),
    ("import_task_without_network_task", 503, InvalidRequest),
    ("too_many_search_requests", 503, System),
];

/// One of Miroir's own codes.
#[derive(Clone, Copy, Debug)]
pub struct OwnCode {
    /// The code; begins with `miroir_`.
    pub code: &'static str,
    /// HTTP status of the answer.
    pub status: u16,
    /// `type` of an error with this code.
    pub error_type: ErrorType,
    /// What it means and what to do, in Markdown of which only `code` is used, for `docs/errors.md` and
    /// [`errors_page`](super::errors_page).
    pub text: &'static str,
}

const fn own(
    code: &'static str,
    status: u16,
    error_type: ErrorType,
    text: &'static str,
) -> OwnCode {
    OwnCode { code, status, error_type, text }
}

/// Miroir's own codes. `docs/errors.md` is written from it (`cargo xtask docs`).
pub const OWN: &[OwnCode] = &[
    own(
        "miroir_alias_conflict",
        409,
        InvalidRequest,
        "The alias exists already, was changed meanwhile, is of another kind, or has the name of an \
         index. The message says which.",
    ),
    own("miroir_alias_not_found", 404, InvalidRequest, "There is no alias of this name."),
    own(
        "miroir_backup_incomplete",
        503,
        System,
        "In a task. A dump or a snapshot of the cluster is one of every node. The nodes the message names \
         wrote none, and the others do not hold every shard together: what they wrote is on their \
         disks, but is not the whole cluster. Bring the nodes back and ask again.",
    ),
    own(
        "miroir_canceled_in_part",
        409,
        InvalidRequest,
        "In a task. It was canceled while nodes were at work, and some shards had been written by then. \
         Send the write again, which is safe, or undo it.",
    ),
    own(
        "miroir_deadline_exceeded",
        504,
        System,
        "The request took longer than `server.request_timeout_ms`, or a multi-search longer than \
         `multi_search.total_timeout_ms` or one of its queries than \
         `multi_search.per_query_timeout_ms`. Ask for less, or raise the limit; look at `miroir_node_request_duration_seconds` for a slow node.",
    ),
    own(
        "miroir_disk_not_foreign",
        409,
        InvalidRequest,
        "A node's disk was to be thrown away that is the node's own. Only the disk of another node is, \
         which `GET /_miroir/topology` shows as `disk_of`.",
    ),
    own(
        "miroir_idempotency_key_reused",
        409,
        InvalidRequest,
        "The `Idempotency-Key` came with another request before. Use a new key for every change.",
    ),
    own(
        "miroir_index_frozen",
        409,
        InvalidRequest,
        "A node that answers will not take the settings the others have, so writes are refused. Mend \
         the node the log names; the freeze ends when the drift check (`settings_drift_check`) finds \
         all nodes equal, or with the next settings update that succeeds.",
    ),
    own(
        "miroir_invalid_alias",
        400,
        InvalidRequest,
        "What an alias is to stand for does not exist, is an alias itself, or is given twice.",
    ),
    own(
        "miroir_invalid_auth",
        401,
        Auth,
        "The admin key is missing or wrong. Send it as `Authorization: Bearer <key>` or `X-Admin-Key`.",
    ),
    own(
        "miroir_leader_lost",
        503,
        System,
        "The pod that carries out changes broke off while it had this one. It may have been carried \
         out, or may still be. Look, or send it again where that is safe, as with documents.",
    ),
    own(
        "miroir_multi_alias_not_writable",
        409,
        InvalidRequest,
        "The alias stands for several indexes. Change one of them; who keeps the alias is in the \
         message.",
    ),
    own(
        "miroir_multi_alias_unsupported",
        400,
        InvalidRequest,
        "What was asked cannot be asked of several indexes. Ask each index that the alias stands for.",
    ),
    own(
        "miroir_no_leader",
        503,
        System,
        "No pod of the deployment leads, or the one that does cannot be reached, so nothing was \
         changed. A pod that died is followed by another after `leader_election.lease_ttl_s`. Retry.",
    ),
    own(
        "miroir_no_quorum",
        503,
        System,
        "For some shards no replica group acknowledged the write, so nothing was acknowledged to you. \
         Some nodes may hold part of it; sending the same documents again is safe. Retry when enough \
         nodes are back.",
    ),
    own(
        "miroir_node_failed",
        502,
        System,
        "A node that had to answer did not, or answered something unreadable, and no other replica \
         could stand in.",
    ),
    own(
        "miroir_node_not_drained",
        409,
        InvalidRequest,
        "A node that is to be removed has shards, a task waits for it, or no other has the settings of \
         an index yet. Drain it first, and wait for its tasks and for repairs.",
    ),
    own(
        "miroir_not_supported",
        501,
        InvalidRequest,
        "Meilisearch has this route or option, Miroir does not serve it; the message says why. See \
         [api-compatibility.md](api-compatibility.md).",
    ),
    own(
        "miroir_operation_not_found",
        404,
        InvalidRequest,
        "There is no operation on the topology with this id; the last 20 that ended are remembered.",
    ),
    own(
        "miroir_operation_refused",
        409,
        InvalidRequest,
        "The topology cannot be changed like that, or the operation cannot do that now; the message \
         says why. See [elastic.md](elastic.md).",
    ),
    own(
        "miroir_operation_running",
        409,
        InvalidRequest,
        "Another change of the topology is under way. Wait for it, or roll it back.",
    ),
    own(
        "miroir_out_of_touch",
        503,
        System,
        "The pod has not heard from the store for `leader_election.lease_ttl_s`, so it does not know what is \
         current. It is in touch again as soon as the store answers. Retry, or ask another pod.",
    ),
    own(
        "miroir_outcome_unknown",
        500,
        System,
        "In a task. The nodes had ended their tasks and forgot them before Miroir asked how they went: \
         somebody deletes finished tasks on the nodes themselves. The change may have been made. Look, \
         or send it again, which is safe with documents and settings; delete tasks through Miroir.",
    ),
    own(
        "miroir_overloaded",
        503,
        System,
        "More requests at the same time than `server.max_concurrent_requests`, or more bytes of writes than `server.max_unanswered_write_bytes` that nodes have not taken; the message says which. Nothing was done. Retry later.",
    ),
    own(
        "miroir_query_quarantined",
        503,
        System,
        "A node broke off over this query, or did not answer it in time though it is a heavy one, so it \
         is not asked again for a while: other replicas would fare no better. The message says for how \
         long. Ask for less, as with fewer conditions in `filter`; see `query_quarantine` in \
         [operations.md](operations.md).",
    ),
    own(
        "miroir_rate_limited",
        429,
        InvalidRequest,
        "More requests from an address, with an API key or of a tenant than `rate_limit` allows; the \
         message says which. Try again after the seconds that `Retry-After` says.",
    ),
    own(
        "miroir_reserved_field",
        400,
        InvalidRequest,
        "A document has a field of Miroir's own: `_miroir_shard` or `_miroir_order`, or one that it writes \
         for you. Rename it; other names that begin with `_miroir_` are yours.",
    ),
    own(
        "miroir_settings_version_stale",
        503,
        System,
        "The request demanded a settings version (`X-Miroir-Min-Settings-Version`) that the readable \
         nodes do not have yet. Retry, or demand less.",
    ),
    own(
        "miroir_shard_unavailable",
        503,
        System,
        "No up-to-date replica of some shard can be reached. With `scatter.unavailable_shard_policy: \
         partial` this happens only when no shard at all can be read, or when a request needs exactly \
         the missing one.",
    ),
    own(
        "miroir_store_behind",
        503,
        System,
        "Nodes were told of a later topology than the store has: the store was restored from an older \
         copy, and nothing is answered by it. Restore the newer one; or go on with this one, with \
         `miroir-ctl topology accept-store`, or `miroir-ctl topology rebuild` to compare it with what \
         the nodes hold first.",
    ),
    own(
        "miroir_store_failed",
        503,
        System,
        "Miroir's store did not answer. Nothing was acknowledged. Look at the disk of `task_store.path`, or at the Redis of `task_store.url`.",
    ),
    own(
        "miroir_store_not_behind",
        409,
        InvalidRequest,
        "An older store was to be accepted, and the store is not older than what its nodes were told.",
    ),
    own(
        "miroir_task_unreadable",
        500,
        System,
        "In a task. What Miroir's store keeps of its state is damaged, or another version wrote it; the \
         message says what is wrong, and it stays as it is. What nodes did of the task stays too. Ask for \
         it again.",
    ),
    own(
        "miroir_too_many_queries",
        400,
        InvalidRequest,
        "A multi-search has more queries than `multi_search.max_queries_per_batch`. Send several \
         requests, or raise the limit.",
    ),
    own(
        "miroir_topology_mismatch",
        503,
        System,
        "The pod was started with other nodes than the store has by now. Start it again with the nodes \
         of the other pods.",
    ),
    own(
        "miroir_unknown_node",
        404,
        InvalidRequest,
        "There is no node of this id. `GET /_miroir/topology` lists the nodes.",
    ),
    own(
        "miroir_unknown_tenant",
        400,
        InvalidRequest,
        "Only tenants with a group may read (`tenant_affinity.fallback: reject`), and the request names \
         none in the header of `tenant_affinity.header_name`, or another one. Name one, or have the \
         operator add it to `tenant_affinity.static_map`.",
    ),
    own(
        "miroir_unmapped_key",
        401,
        Auth,
        "Only API keys of tenants may read (`tenant_affinity.mode: api_key`, `.fallback: reject`), and \
         this one is of none. The operator maps it with `POST /_miroir/tenants`.",
    ),
    own(
        "miroir_unmapped_tenant",
        404,
        InvalidRequest,
        "The admin API was asked to forget the tenant of a key that has none. `GET /_miroir/tenants` \
         lists the keys' hashes.",
    ),
];

/// Status and class of a code; `None` is `400 invalid_request`, or a code of another version.
pub(super) fn find(code: &str) -> Option<(u16, ErrorType)> {
    let own = OWN.iter().map(|own| (own.code, own.status, own.error_type));
    let found = MEILISEARCH.iter().copied().chain(own).find(|(known, ..)| *known == code);
    found.map(|(_, status, class)| (status, class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_codes_are_sorted_prefixed_and_explained() {
        assert!(OWN.is_sorted_by(|a, b| a.code < b.code));
        for own in OWN {
            assert!(own.code.starts_with("miroir_"), "{}", own.code);
            assert!(own.text.ends_with('.') && own.status >= 400, "{}", own.code);
        }
    }

    #[test]
    fn no_code_is_there_twice() {
        let mut seen = std::collections::BTreeSet::new();
        for (code, ..) in MEILISEARCH {
            assert!(seen.insert(*code), "{code}");
        }
    }
}
