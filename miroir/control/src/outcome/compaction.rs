//! The sizes of a compacted index: sums of what its nodes say.

use miroir_store::TaskRecord;

/// Units of sizes in tasks.
const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// Reads a size as Meilisearch prints it in tasks, for example `1.25 MiB` or `20 kB`.
fn parse_size(text: &str) -> Option<f64> {
    let (number, unit) = text.trim().split_once(' ')?;
    let number: f64 = number.parse().ok()?;
    if let Some(power) = UNITS.iter().position(|known| *known == unit) {
        return Some(number * 1024_f64.powi(i32::try_from(power).ok()?));
    }
    let decimal = ["B", "KB", "MB", "GB", "TB", "PB", "EB"];
    let power = decimal.iter().position(|known| known.eq_ignore_ascii_case(unit))?;
    Some(number * 1000_f64.powi(i32::try_from(power).ok()?))
}

/// Prints a size in the largest unit that leaves at least one.
fn print_size(bytes: f64) -> String {
    let mut value = bytes;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let rounded = (value * 100.0).round() / 100.0;
    format!("{rounded} {}", UNITS[unit])
}

/// Fills the sizes of a finished compaction from the nodes' own.
pub(crate) fn sum_sizes(record: &mut TaskRecord) {
    let total = |key: &str| -> Option<f64> {
        let sizes = record
            .nodes
            .iter()
            .filter(|node| !node.dropped)
            .filter_map(|node| parse_size(node.details.as_ref()?.get(key)?.as_str()?));
        sizes.fold(None, |sum: Option<f64>, size| Some(sum.unwrap_or(0.0) + size))
    };
    let sizes = ["preCompactionSize", "postCompactionSize"].map(|key| (key, total(key)));
    let details = record.details.get_or_insert_default();
    for (key, size) in sizes {
        if let Some(size) = size {
            details.insert(key.into(), print_size(size).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_printed() {
        assert_eq!(parse_size("20 B"), Some(20.0));
        assert_eq!(parse_size("1.5 KiB"), Some(1536.0));
        assert_eq!(parse_size("2 MB"), Some(2_000_000.0));
        assert_eq!(parse_size("much"), None);
        assert_eq!(print_size(20.0), "20 B");
        assert_eq!(print_size(1536.0), "1.5 KiB");
        assert_eq!(print_size(3.0 * 1024.0 * 1024.0), "3 MiB");
    }
}
