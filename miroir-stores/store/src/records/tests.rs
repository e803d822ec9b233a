//! Names of tables.

use super::*;

#[test]
fn features_of_tables_are_listed() {
    let named: std::collections::BTreeSet<_> = Table::ALL
        .into_iter()
        .filter_map(Table::feature)
        .chain([Log::CanaryRuns, Log::CdcOverflow].into_iter().filter_map(Log::feature))
        .collect();
    assert_eq!(named, FEATURES.into_iter().collect());
}
