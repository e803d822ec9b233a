// Meilisearch's JavaScript client against the address in MEILISEARCH_URL.

import assert from "node:assert/strict";
import { Meilisearch } from "meilisearch";
import { generateTenantToken } from "meilisearch/token";

const host = process.env.MEILISEARCH_URL;
const apiKey = process.env.MEILISEARCH_API_KEY;
const uid = "sdk-films-javascript";
const films = [
  { id: 1, title: "The Third Man", studio: "london", year: 1949 },
  { id: 2, title: "Brief Encounter", studio: "rank", year: 1945 },
  { id: 3, title: "The Red Shoes", studio: "rank", year: 1948 },
  { id: 4, title: "The Fallen Idol", studio: "london", year: 1948 },
  { id: 5, title: "Great Expectations", studio: "rank", year: 1946 },
  { id: 6, title: "Odd Man Out", studio: "rank", year: 1947 },
];

const client = new Meilisearch({ host, apiKey });

function check(what, found, expected) {
  assert.deepEqual(found, expected, what);
  console.log(`ok ${what}`);
}

/** Waits for a task, which has to succeed. */
async function done(enqueued) {
  const task = await enqueued.waitTask({ timeout: 60_000 });
  assert.equal(task.status, "succeeded", JSON.stringify(task));
}

/** The code of the error that `work` ends with. */
async function code(work) {
  try {
    await work;
  } catch (error) {
    return error.cause?.code;
  }
  return undefined;
}

const ids = (answer) => answer.hits.map((hit) => hit.id);

// What a run that was stopped may have left.
await client.deleteIndex(uid).waitTask({ timeout: 60_000 });

await done(client.createIndex(uid, { primaryKey: "id" }));
const index = client.index(uid);
check("create an index", (await index.getRawInfo()).primaryKey, "id");

await done(
  index.updateSettings({ filterableAttributes: ["studio"], sortableAttributes: ["year"] }),
);
check("settings", (await index.getSettings()).filterableAttributes, ["studio"]);

await done(index.addDocuments(films));
check("index documents", (await index.getStats()).numberOfDocuments, films.length);

check("search", ids(await index.search("man")).sort(), [1, 6]);
check("search with a typo", ids(await index.search("encuonter")), [2]);
const newest = await index.search("", { filter: "studio = rank", sort: ["year:desc"], limit: 2 });
check("filter, sort and limit", ids(newest), [3, 6]);
const { facetDistribution } = await index.search("", { facets: ["studio"] });
check("facets", facetDistribution, { studio: { london: 2, rank: 4 } });

const { results: keys } = await client.getKeys();
const searchKey = keys.find((key) => key.actions.length === 1 && key.actions[0] === "search");
const token = await generateTenantToken({
  apiKey: searchKey.key,
  apiKeyUid: searchKey.uid,
  searchRules: { [uid]: { filter: "studio = london" } },
});
const tenant = new Meilisearch({ host, apiKey: token }).index(uid);
check("tenant token sees its part", ids(await tenant.search("")).sort(), [1, 4]);
check("tenant token cannot do more", await code(tenant.getDocuments()), "invalid_api_key");

const { results } = await client.multiSearch({
  queries: [
    { indexUid: uid, q: "shoes" },
    { indexUid: uid, q: "idol" },
  ],
});
check("multi-search", results.map(ids), [[3], [4]]);

await done(client.deleteIndex(uid));
check("delete the index", await code(index.getRawInfo()), "index_not_found");
