//! CSV to JSON documents, with Meilisearch's typing of columns.

use std::collections::HashMap;

use bytes::Bytes;
use csv::{ReaderBuilder, StringRecord};
use miroir_api::meili::ApiError;

use super::check::MAX_FIELDS;
use super::payload::{Format, FormatError, RawDocument, Repeated};

/// The type of a column: what follows the last `:` of its header.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    Boolean,
}

/// A header that ends with none of the known types is a name as a whole.
fn column(header: &str) -> (&str, Kind) {
    match header.rsplit_once(':') {
        Some((name, "string")) => (name, Kind::Text),
        Some((name, "number")) => (name, Kind::Number),
        Some((name, "boolean")) => (name, Kind::Boolean),
        _ => (header, Kind::Text),
    }
}

#[derive(Clone, Copy)]
enum Cell<'a> {
    Null,
    Text(&'a str),
    Integer(i64),
    Float(f64),
    Boolean(bool),
}

/// Bytes of JSON that a payload may become.
///
/// A row of nothing but separators becomes an object with each column's name, so that a few kilobytes
/// could take all memory. What exports grow by is the length of names: 64 times their size is more
/// than any of them, and only small ones may grow by so much.
fn largest(payload: usize) -> usize {
    let times = |factor: usize| payload.saturating_mul(factor);
    times(64).min(times(8).max(100_000_000)).max(2_000_000)
}

/// Converts a whole payload. Of two columns with one name the last wins, at the place of the first.
pub(super) fn split(payload: &Bytes, delimiter: u8) -> Result<Vec<RawDocument>, FormatError> {
    let format = Format::Csv { delimiter };
    let fault = |cause: String| {
        FormatError::malformed(format!("The `{format}` payload provided is malformed: `{cause}`."))
    };
    let mut reader = ReaderBuilder::new().delimiter(delimiter).from_reader(payload.as_ref());
    let headers = reader.headers().map_err(|e| fault(e.to_string()))?.clone();

    let (mut names, mut places) = (Vec::new(), HashMap::new());
    let mut columns = Vec::with_capacity(headers.len());
    for header in &headers {
        // The task fails of the first document: nothing more has to be read.
        if names.len() > MAX_FIELDS {
            break;
        }
        let (name, kind) = column(header);
        let place = *places.entry(name).or_insert_with(|| {
            names.push(name);
            names.len() - 1
        });
        columns.push((place, kind));
    }
    let keys: Vec<String> = names
        .iter()
        .map(|name| serde_json::to_string(name).map(|name| name + ":"))
        .collect::<Result<_, _>>()
        .map_err(|e| fault(e.to_string()))?;

    let largest = largest(payload.len());
    let mut out = Vec::with_capacity(payload.len() * 2);
    let mut ends = Vec::new();
    let mut record = StringRecord::new();
    let mut line = 0usize;
    while reader.read_record(&mut record).map_err(|e| fault(e.to_string()))? {
        line += 1;
        let mut cells = vec![Cell::Null; keys.len()];
        for ((place, kind), text) in columns.iter().zip(&record) {
            cells[*place] = cell(*kind, text, line).map_err(&fault)?;
        }
        out.push(b'{');
        for (index, (key, cell)) in keys.iter().zip(cells).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(key.as_bytes());
            write(cell, &mut out).map_err(|e| fault(e.to_string()))?;
        }
        out.push(b'}');
        if out.len() > largest {
            return Err(FormatError(ApiError::new(
                "payload_too_large",
                format!(
                    "The `{format}` payload becomes more than {largest} bytes as JSON, at line {line}. \
                     Send fewer lines at a time, or leave out columns that are empty."
                ),
            )));
        }
        ends.push(out.len());
        if keys.len() > MAX_FIELDS {
            break;
        }
    }

    let all = Bytes::from(out);
    let mut start = 0;
    Ok(ends
        .into_iter()
        .map(|end| {
            let bytes = all.slice(start..end);
            start = end;
            RawDocument { bytes, repeated: Repeated::LastWins }
        })
        .collect())
}

fn cell(kind: Kind, text: &str, line: usize) -> Result<Cell<'_>, String> {
    let trimmed = text.trim();
    Ok(match kind {
        Kind::Text if text.is_empty() => Cell::Null,
        Kind::Text => Cell::Text(text),
        Kind::Number | Kind::Boolean if trimmed.is_empty() => Cell::Null,
        Kind::Number => match trimmed.parse::<i64>() {
            Ok(integer) => Cell::Integer(integer),
            Err(_) => Cell::Float(trimmed.parse::<f64>().map_err(|error| {
                format!("Error parsing number {text:?} at line {line}: {error}")
            })?),
        },
        Kind::Boolean => {
            Cell::Boolean(trimmed.parse::<bool>().map_err(|error| {
                format!("Error parsing boolean {text:?} at line {line}: {error}")
            })?)
        }
    })
}

fn write(cell: Cell<'_>, out: &mut Vec<u8>) -> serde_json::Result<()> {
    match cell {
        Cell::Null => out.extend_from_slice(b"null"),
        Cell::Boolean(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        Cell::Integer(value) => {
            out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        }
        // serde_json writes infinities and NaN, which `parse` accepts, as null: so does Meilisearch.
        Cell::Float(value) => serde_json::to_writer(out, &value)?,
        Cell::Text(value) => serde_json::to_writer(out, value)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_payload_does_not_become_a_large_one() {
        let rows = |name: usize, rows: usize, row: &str| {
            let mut text = format!("{},b\n", "a".repeat(name));
            text.push_str(&format!("{row}\n").repeat(rows));
            split(&Bytes::from(text), b',')
        };
        let error = rows(6000, 6000, ",").unwrap_err().0;
        assert_eq!(error.code, "payload_too_large");
        assert!(error.message.contains("more than 2000000 bytes"), "{}", error.message);
        assert!(error.message.contains("line 333"), "{}", error.message);
        // More columns than an index may have attributes are not read to their end.
        let names: Vec<String> = (0..200_000).map(|n| n.to_string()).collect();
        let wide = format!("{}\n1\n2\n", names.join(","));
        let documents = split(&Bytes::from(wide), b',');
        assert!(documents.is_err(), "a row has as many cells as there are columns");
        let wide = format!("{}\n{}\n{}\n", names.join(","), names.join(","), names.join(","));
        let documents = split(&Bytes::from(wide), b',').unwrap();
        assert_eq!(documents.len(), 1);
        assert!(super::super::check::check_fields(&documents[0]).is_err());
        // An export with names as long as names are.
        assert_eq!(rows(60, 20_000, "1,").unwrap().len(), 20_000);
        assert_eq!(largest(1_000_000), 64_000_000);
        assert_eq!(largest(90_000_000), 720_000_000);
    }
}
