module miroir-sdk-test

go 1.21

require github.com/meilisearch/meilisearch-go v0.36.3
