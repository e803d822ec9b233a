"""Meilisearch's Python client against the address in MEILISEARCH_URL."""

import os
import sys

import meilisearch
from meilisearch.errors import MeilisearchApiError

URL = os.environ["MEILISEARCH_URL"]
KEY = os.environ["MEILISEARCH_API_KEY"]
UID = "sdk-films-python"
FILMS = [
    {"id": 1, "title": "The Third Man", "studio": "london", "year": 1949},
    {"id": 2, "title": "Brief Encounter", "studio": "rank", "year": 1945},
    {"id": 3, "title": "The Red Shoes", "studio": "rank", "year": 1948},
    {"id": 4, "title": "The Fallen Idol", "studio": "london", "year": 1948},
    {"id": 5, "title": "Great Expectations", "studio": "rank", "year": 1946},
    {"id": 6, "title": "Odd Man Out", "studio": "rank", "year": 1947},
]

client = meilisearch.Client(URL, KEY)


def check(what, found, expected):
    if found != expected:
        sys.exit(f"FAILED {what}: found {found!r}, expected {expected!r}")
    print(f"ok {what}")


def done(task):
    """Waits for a task, which has to succeed."""
    task = client.wait_for_task(task.task_uid, timeout_in_ms=60_000)
    if task.status != "succeeded":
        sys.exit(f"FAILED task {task.uid} ({task.type}): {task.error}")


def ids(answer):
    return [hit["id"] for hit in answer["hits"]]


# What a run that was stopped may have left.
client.wait_for_task(client.delete_index(UID).task_uid, timeout_in_ms=60_000)

done(client.create_index(UID, {"primaryKey": "id"}))
index = client.get_index(UID)
check("create an index", index.primary_key, "id")

done(index.update_settings({"filterableAttributes": ["studio"], "sortableAttributes": ["year"]}))
check("settings", index.get_settings()["filterableAttributes"], ["studio"])

done(index.add_documents(FILMS))
check("index documents", index.get_stats().number_of_documents, len(FILMS))

check("search", sorted(ids(index.search("man"))), [1, 6])
check("search with a typo", ids(index.search("encuonter")), [2])
newest = index.search("", {"filter": "studio = rank", "sort": ["year:desc"], "limit": 2})
check("filter, sort and limit", ids(newest), [3, 6])
check("facets", index.search("", {"facets": ["studio"]})["facetDistribution"],
      {"studio": {"london": 2, "rank": 4}})

search_key = next(k for k in client.get_keys().results if k.actions == ["search"])
token = client.generate_tenant_token(
    search_key.uid, {UID: {"filter": "studio = london"}}, api_key=search_key.key
)
tenant = meilisearch.Client(URL, token)
check("tenant token sees its part", sorted(ids(tenant.index(UID).search(""))), [1, 4])
try:
    tenant.index(UID).get_documents()
    check("tenant token cannot do more", "allowed", "invalid_api_key")
except MeilisearchApiError as error:
    check("tenant token cannot do more", error.code, "invalid_api_key")

answers = client.multi_search([{"indexUid": UID, "q": "shoes"}, {"indexUid": UID, "q": "idol"}])
check("multi-search", [ids(answer) for answer in answers["results"]], [[3], [4]])

done(client.delete_index(UID))
try:
    client.get_index(UID)
    check("delete the index", "still there", "index_not_found")
except MeilisearchApiError as error:
    check("delete the index", error.code, "index_not_found")
