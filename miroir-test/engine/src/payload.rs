//! Bodies of document additions: JSON, NDJSON and CSV become JSON objects one after another.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::errors::ApiError;

/// Format of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// One object or an array of objects.
    Json,
    /// One object per line.
    Ndjson,
    /// A table with typed headers.
    Csv,
}

impl Format {
    /// Reads a content type.
    pub(crate) fn from_content_type(content_type: Option<&str>) -> Result<Self, ApiError> {
        const ACCEPTED: &str = "`application/json`, `application/x-ndjson`, `text/csv`";
        let Some(content_type) = content_type else {
            return Err(ApiError::new(
                "missing_content_type",
                format!(
                    "A Content-Type header is missing. Accepted values for the Content-Type header are: {ACCEPTED}"
                ),
            ));
        };
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json" => Ok(Format::Json),
            "application/x-ndjson" => Ok(Format::Ndjson),
            "text/csv" => Ok(Format::Csv),
            other => Err(ApiError::new(
                "invalid_content_type",
                format!(
                    "The Content-Type `{other}` is invalid. Accepted values for the Content-Type header are: {ACCEPTED}"
                ),
            )),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Ndjson => "ndjson",
            Format::Csv => "csv",
        }
    }

    fn malformed(self, text: &str) -> ApiError {
        ApiError::new(
            "malformed_payload",
            format!(
                "The `{}` payload provided is malformed. `Couldn't serialize document value: {text}`.",
                self.name()
            ),
        )
    }
}

/// Returns the documents, one per line, and their number.
pub(crate) fn read(format: Format, body: &[u8], delimiter: u8) -> Result<(Vec<u8>, u64), ApiError> {
    if body.is_empty() {
        return Err(ApiError::new(
            "missing_payload",
            format!("A {} payload is missing.", format.name()),
        ));
    }
    match format {
        Format::Json => read_json(body),
        Format::Ndjson => read_ndjson(body),
        Format::Csv => read_csv(body, delimiter),
    }
}

fn read_json(body: &[u8]) -> Result<(Vec<u8>, u64), ApiError> {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    let malformed = |error: serde_json::Error| {
        if error.is_data() {
            Format::Json.malformed("data are neither an object nor a list of objects")
        } else {
            Format::Json.malformed(&error.to_string())
        }
    };
    match first {
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_slice(body).map_err(malformed)?;
            let mut out = Vec::with_capacity(body.len());
            for item in &items {
                push_object(&mut out, item.get())?;
            }
            Ok((out, items.len() as u64))
        }
        _ => {
            let item: &RawValue = serde_json::from_slice(body).map_err(malformed)?;
            if !item.get().starts_with('{') {
                return Err(
                    Format::Json.malformed("data are neither an object nor a list of objects")
                );
            }
            let mut out = Vec::with_capacity(body.len());
            push_object(&mut out, item.get())?;
            Ok((out, 1))
        }
    }
}

fn read_ndjson(body: &[u8]) -> Result<(Vec<u8>, u64), ApiError> {
    let mut out = Vec::with_capacity(body.len());
    let mut count = 0;
    for item in serde_json::Deserializer::from_slice(body).into_iter::<&RawValue>() {
        let item = item.map_err(|error| Format::Ndjson.malformed(&error.to_string()))?;
        push_object(&mut out, item.get())?;
        count += 1;
    }
    Ok((out, count))
}

fn push_object(out: &mut Vec<u8>, text: &str) -> Result<(), ApiError> {
    if !text.starts_with('{') {
        let error = match serde_json::from_str::<Map<String, Value>>(text) {
            Err(error) => error.to_string(),
            Ok(_) => "not an object".to_owned(),
        };
        return Err(ApiError::internal(error));
    }
    out.extend_from_slice(text.as_bytes());
    out.push(b'\n');
    Ok(())
}

#[derive(Clone, Copy)]
enum Column {
    Text,
    Number,
    Boolean,
}

fn read_csv(body: &[u8], delimiter: u8) -> Result<(Vec<u8>, u64), ApiError> {
    let malformed = |text: String| {
        ApiError::new(
            "malformed_payload",
            format!("The `csv` payload provided is malformed: `{text}`."),
        )
    };
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(body);
    let headers = reader.headers().map_err(|error| malformed(error.to_string()))?.clone();
    let columns: Vec<(&str, Column)> = headers
        .iter()
        .map(|header| match header.rsplit_once(':') {
            Some((name, "string")) => (name, Column::Text),
            Some((name, "number")) => (name, Column::Number),
            Some((name, "boolean")) => (name, Column::Boolean),
            _ => (header, Column::Text),
        })
        .collect();
    let mut out = Vec::with_capacity(body.len());
    let mut count = 0;
    for (at, record) in reader.records().enumerate() {
        let record = record.map_err(|error| malformed(error.to_string()))?;
        let line = at + 1;
        let mut object = Map::new();
        for ((name, column), cell) in columns.iter().zip(record.iter()) {
            let trimmed = cell.trim();
            let value = match column {
                Column::Text if cell.is_empty() => Value::Null,
                Column::Number | Column::Boolean if trimmed.is_empty() => Value::Null,
                Column::Text => Value::String(cell.to_owned()),
                Column::Number => {
                    if let Ok(integer) = trimmed.parse::<i64>() {
                        integer.into()
                    } else {
                        trimmed.parse::<f64>().map(Value::from).map_err(|error| {
                            malformed(format!(
                                "Error parsing number {cell:?} at line {line}: {error}"
                            ))
                        })?
                    }
                }
                Column::Boolean => trimmed.parse::<bool>().map(Value::from).map_err(|error| {
                    malformed(format!("Error parsing boolean {cell:?} at line {line}: {error}"))
                })?,
            };
            object.insert((*name).to_owned(), value);
        }
        serde_json::to_writer(&mut out, &object).map_err(ApiError::internal)?;
        out.push(b'\n');
        count += 1;
    }
    Ok((out, count))
}
