//! Errors as Meilisearch prints them: `{message, code, type, link}` and an HTTP status.

use milli_core::{Error, UserError};
use serde_json::{Value, json};

/// One error of the HTTP API or of a task.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    /// HTTP status.
    pub(crate) status: u16,
    /// Human readable text.
    pub(crate) message: String,
    /// Stable code in snake case.
    pub(crate) code: String,
}

impl ApiError {
    /// Builds an error whose status follows from its code.
    pub(crate) fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        let code = code.into();
        Self { status: status_of(&code), message: message.into(), code }
    }

    /// An unexpected failure.
    pub(crate) fn internal(error: impl std::fmt::Display) -> Self {
        Self::new("internal", error.to_string())
    }

    /// The index does not exist.
    pub(crate) fn index_not_found(uid: &str) -> Self {
        Self::new("index_not_found", format!("Index `{uid}` not found."))
    }

    /// The document does not exist.
    pub(crate) fn document_not_found(id: &str) -> Self {
        Self::new("document_not_found", format!("Document `{id}` not found."))
    }

    /// Puts text in front of the message.
    pub(crate) fn prefixed(mut self, prefix: &str) -> Self {
        self.message.insert_str(0, prefix);
        self
    }

    /// The error object.
    pub(crate) fn to_value(&self) -> Value {
        json!({
            "message": self.message,
            "code": self.code,
            "type": kind_of(&self.code),
            "link": format!("https://docs.meilisearch.com/errors#{}", self.code),
        })
    }

    /// Maps an engine error, without any prefix.
    pub(crate) fn from_engine(error: &Error) -> Self {
        Self::new(code_of(error), error.to_string())
    }

    /// Maps an engine error met while working on one index.
    pub(crate) fn from_index(error: &Error, uid: &str) -> Self {
        Self::from_engine(error).prefixed(&format!("Index `{uid}`: "))
    }

    /// Like [`Self::from_engine`] with another code for the errors of a filter.
    pub(crate) fn with_filter_code(mut self, code: &str) -> Self {
        if self.code == "invalid_search_filter" {
            self.code = code.to_owned();
            self.status = status_of(code);
        }
        self
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self::from_engine(&error)
    }
}

impl From<milli_core::heed::Error> for ApiError {
    fn from(error: milli_core::heed::Error) -> Self {
        Self::from_engine(&Error::from(error))
    }
}

impl From<std::io::Error> for ApiError {
    fn from(error: std::io::Error) -> Self {
        Self::new("io_error", error.to_string())
    }
}

fn status_of(code: &str) -> u16 {
    match code {
        "missing_authorization_header" | "missing_master_key" => 401,
        "invalid_api_key" => 403,
        "index_not_found" | "document_not_found" | "task_not_found" => 404,
        "index_already_exists" => 409,
        "payload_too_large" => 413,
        "invalid_content_type" | "missing_content_type" | "unsupported_media_type" => 415,
        "io_error" | "no_space_left_on_device" => 422,
        "internal"
        | "database_size_limit_reached"
        | "invalid_store_file"
        | "index_creation_failed" => 500,
        _ => 400,
    }
}

fn kind_of(code: &str) -> &'static str {
    match code {
        "missing_authorization_header" | "missing_master_key" | "invalid_api_key" => "auth",
        "internal"
        | "database_size_limit_reached"
        | "invalid_store_file"
        | "index_creation_failed" => "internal",
        "io_error" | "no_space_left_on_device" => "system",
        _ => "invalid_request",
    }
}

/// The code Meilisearch gives to an engine error.
fn code_of(error: &Error) -> &'static str {
    let user = match error {
        Error::InternalError(_) => return "internal",
        Error::IoError(_) => return "io_error",
        Error::UserError(user) => user,
    };
    match user {
        UserError::InvalidStoreFile => "invalid_store_file",
        UserError::NoSpaceLeftOnDevice => "no_space_left_on_device",
        UserError::MaxDatabaseSizeReached => "database_size_limit_reached",
        UserError::AttributeLimitReached => "max_fields_limit_exceeded",
        UserError::InvalidFilter(_)
        | UserError::InvalidFilterExpression(..)
        | UserError::FilterOperatorNotAllowed { .. } => "invalid_search_filter",
        UserError::MissingDocumentId { .. } => "missing_document_id",
        UserError::InvalidDocumentId { .. } | UserError::TooManyDocumentIds { .. } => {
            "invalid_document_id"
        }
        UserError::MissingDocumentField(_) => "invalid_document_fields",
        UserError::NoPrimaryKeyCandidateFound => "index_primary_key_no_candidate_found",
        UserError::MultiplePrimaryKeyCandidatesFound { .. } => {
            "index_primary_key_multiple_candidates_found"
        }
        UserError::PrimaryKeyCannotBeChanged(_) => "index_primary_key_already_exists",
        UserError::InvalidDistinctAttribute { .. } => "invalid_search_distinct",
        UserError::SortRankingRuleMissing
        | UserError::InvalidSortableAttribute { .. }
        | UserError::SortError(_) => "invalid_search_sort",
        UserError::InvalidFacetsDistribution { .. } => "invalid_search_facets",
        UserError::InvalidSearchableAttribute { .. } => "invalid_search_attributes_to_search_on",
        UserError::InvalidFacetSearchFacetName { .. } => "invalid_facet_search_facet_name",
        UserError::CriterionError(_) => "invalid_settings_ranking_rules",
        UserError::InvalidGeoField(_) => "invalid_document_geo_field",
        UserError::InvalidVectorDimensions { .. }
        | UserError::InvalidIndexingVectorDimensions { .. } => "invalid_vector_dimensions",
        UserError::InvalidVectorsMapType { .. } | UserError::InvalidVectorsEmbedderConf { .. } => {
            "invalid_vectors_type"
        }
        UserError::TooManyVectors(..) => "too_many_vectors",
        UserError::InvalidMinTypoWordLenSetting(..) => "invalid_settings_typo_tolerance",
        UserError::InvalidSearchEmbedder(_) => "invalid_search_embedder",
        UserError::InvalidSimilarEmbedder(_) => "invalid_similar_embedder",
        UserError::VectorEmbeddingError(_) | UserError::DocumentEmbeddingError(_) => {
            "vector_embedding_error"
        }
        UserError::InvalidFieldForSource { .. }
        | UserError::MissingFieldForSource { .. }
        | UserError::InvalidOpenAiModel { .. }
        | UserError::InvalidOpenAiModelDimensions { .. }
        | UserError::InvalidOpenAiModelDimensionsMax { .. }
        | UserError::InvalidSettingsDimensions { .. }
        | UserError::InvalidUrl { .. }
        | UserError::InvalidSettingsDocumentTemplateMaxBytes { .. }
        | UserError::InvalidPrompt(_)
        | UserError::InvalidDisableBinaryQuantization { .. }
        | UserError::InvalidSourceForNested { .. }
        | UserError::MissingSourceForNested { .. }
        | UserError::InvalidSettingsEmbedder { .. }
        | UserError::TooManyEmbedders(_)
        | UserError::InvalidPromptForEmbeddings(..) => "invalid_settings_embedders",
        _ => "internal",
    }
}
