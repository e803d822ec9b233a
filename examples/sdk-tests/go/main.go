// Meilisearch's Go client against the address in MEILISEARCH_URL.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"reflect"
	"sort"
	"time"

	"github.com/meilisearch/meilisearch-go"
)

const uid = "sdk-films-go"

type film struct {
	ID     int    `json:"id"`
	Title  string `json:"title"`
	Studio string `json:"studio"`
	Year   int    `json:"year"`
}

var films = []film{
	{1, "The Third Man", "london", 1949},
	{2, "Brief Encounter", "rank", 1945},
	{3, "The Red Shoes", "rank", 1948},
	{4, "The Fallen Idol", "london", 1948},
	{5, "Great Expectations", "rank", 1946},
	{6, "Odd Man Out", "rank", 1947},
}

func check(what string, found, expected any) {
	if !reflect.DeepEqual(found, expected) {
		log.Fatalf("FAILED %s: found %v, expected %v", what, found, expected)
	}
	fmt.Println("ok", what)
}

// must ends the program when a request fails.
func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal("FAILED ", err)
	}
	return value
}

// code is Meilisearch's code of an error.
func code(err error) string {
	var answer *meilisearch.Error
	if errors.As(err, &answer) {
		return fmt.Sprint(answer.APIError.Code)
	}
	return fmt.Sprint(err)
}

func ids(hits meilisearch.Hits) []int {
	var found []film
	if err := hits.DecodeInto(&found); err != nil {
		log.Fatal("FAILED ", err)
	}
	out := []int{}
	for _, hit := range found {
		out = append(out, hit.ID)
	}
	return out
}

func sorted(ids []int) []int {
	sort.Ints(ids)
	return ids
}

func main() {
	url, key := os.Getenv("MEILISEARCH_URL"), os.Getenv("MEILISEARCH_API_KEY")
	client := meilisearch.New(url, meilisearch.WithAPIKey(key))
	wait := func(task *meilisearch.TaskInfo) *meilisearch.Task {
		return must(client.WaitForTask(task.TaskUID, 50*time.Millisecond))
	}
	// done waits for a task, which has to succeed.
	done := func(info *meilisearch.TaskInfo, err error) {
		task := wait(must(info, err))
		if task.Status != meilisearch.TaskStatusSucceeded {
			log.Fatalf("FAILED task %d (%s): %v", task.UID, task.Type, task.Error)
		}
	}

	// What a run that was stopped may have left.
	wait(must(client.DeleteIndex(uid)))

	done(client.CreateIndex(&meilisearch.IndexConfig{Uid: uid, PrimaryKey: "id"}))
	check("create an index", must(client.GetIndex(uid)).PrimaryKey, "id")
	index := client.Index(uid)

	done(index.UpdateSettings(&meilisearch.Settings{
		FilterableAttributes: []string{"studio"},
		SortableAttributes:   []string{"year"},
	}))
	check("settings", must(index.GetSettings()).FilterableAttributes, []string{"studio"})

	done(index.AddDocuments(films, nil))
	check("index documents", int(must(index.GetStats()).NumberOfDocuments), len(films))

	search := func(query string, request meilisearch.SearchRequest) *meilisearch.SearchResponse {
		return must(index.Search(query, &request))
	}
	all := meilisearch.SearchRequest{}
	check("search", sorted(ids(search("man", all).Hits)), []int{1, 6})
	check("search with a typo", ids(search("encuonter", all).Hits), []int{2})
	newest := search("", meilisearch.SearchRequest{
		Filter: "studio = rank", Sort: []string{"year:desc"}, Limit: 2,
	})
	check("filter, sort and limit", ids(newest.Hits), []int{3, 6})
	facets := search("", meilisearch.SearchRequest{Facets: []string{"studio"}}).FacetDistribution
	var studios map[string]map[string]int
	if err := json.Unmarshal(facets, &studios); err != nil {
		log.Fatal("FAILED ", err)
	}
	check("facets", studios, map[string]map[string]int{"studio": {"london": 2, "rank": 4}})

	for _, key := range must(client.GetKeys(nil)).Results {
		if !reflect.DeepEqual(key.Actions, []string{"search"}) {
			continue
		}
		rules := map[string]any{uid: map[string]any{"filter": "studio = london"}}
		options := &meilisearch.TenantTokenOptions{APIKey: key.Key}
		token := must(client.GenerateTenantToken(key.UID, rules, options))
		tenant := meilisearch.New(url, meilisearch.WithAPIKey(token)).Index(uid)
		found := must(tenant.Search("", &meilisearch.SearchRequest{}))
		check("tenant token sees its part", sorted(ids(found.Hits)), []int{1, 4})
		err := tenant.GetDocuments(nil, &meilisearch.DocumentsResult{})
		check("tenant token cannot do more", code(err), "invalid_api_key")
	}

	answers := must(client.MultiSearch(&meilisearch.MultiSearchRequest{
		Queries: []*meilisearch.SearchRequest{
			{IndexUID: uid, Query: "shoes"},
			{IndexUID: uid, Query: "idol"},
		},
	}))
	both := [][]int{}
	for _, answer := range answers.Results {
		both = append(both, ids(answer.Hits))
	}
	check("multi-search", both, [][]int{{3}, {4}})

	done(client.DeleteIndex(uid))
	_, err := client.GetIndex(uid)
	check("delete the index", code(err), "index_not_found")
}
