//! The sample catalogue: an invented outdoor outfitter, made of a fixed seed.
//!
//! The same documents come out on every machine and in every version: a golden hash holds them.
//! They have what a search engine has to deal with: text, numbers, dates (ISO and Unix), arrays of
//! text, of numbers and of both, booleans, nested objects, geographic points, nulls and fields that
//! are missing.

mod words;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use self::words::{Kind, Sizes};
use crate::Outcome;

/// Documents of the demo.
pub(crate) const DOCUMENTS: usize = 6_000;
/// Their primary key.
pub(crate) const PRIMARY_KEY: &str = "id";

const SEED: u64 = 0x6d69_726f_6972;
/// 2015-01-01T00:00:00Z in seconds.
const FIRST_DAY: u64 = 1_420_070_400;
const DAY: u64 = 86_400;

/// SplitMix64 (Steele, Lea, Flood 2014): one multiplication chain per number, no state to warm up.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// A generator for `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, from the high half of a 128-bit product.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// A number between both ends, which may come out too.
    pub(crate) fn between(&mut self, (low, high): (u64, u64)) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in `percent` of all cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of `all`.
    pub(crate) fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }

    fn word(&mut self, all: &[&'static str]) -> &'static str {
        self.pick::<&str>(all)
    }

    /// Up to `count` different ones of `all`, in random order.
    fn several(&mut self, all: &[&'static str], count: u64) -> Vec<String> {
        let mut out: Vec<String> = Vec::new();
        for _ in 0..count {
            let one = self.word(all);
            if !out.iter().any(|other| other == one) {
                out.push(one.to_owned());
            }
        }
        out
    }
}

/// The first `count` documents.
pub(crate) fn documents(count: usize) -> impl Iterator<Item = Value> {
    (0..count).map(document)
}

/// Writes the catalogue as NDJSON; `-` is standard output.
pub(crate) fn write(out: &Path, count: usize) -> Outcome<()> {
    let target: Box<dyn Write> = if out == Path::new("-") {
        Box::new(io::stdout().lock())
    } else {
        Box::new(File::create(out).map_err(|error| format!("{}: {error}", out.display()))?)
    };
    let mut target = BufWriter::new(target);
    for document in documents(count) {
        writeln!(target, "{document}")?;
    }
    target.flush()?;
    Ok(())
}

/// The settings the demo gives the index.
pub(crate) fn settings() -> Value {
    json!({
        "searchableAttributes":
            ["title", "brand", "categories", "tags", "description", "colour", "city"],
        "filterableAttributes": [
            "brand", "categories", "tags", "colour", "price", "rating", "reviews", "stock",
            "in_stock", "vegan", "sizes", "released_at", "weight_g", "dimensions", "country",
            "discontinued", "_geo",
        ],
        "sortableAttributes": ["price", "rating", "released_at", "title", "weight_g", "_geo"],
        "synonyms": {
            "headlamp": ["head torch"],
            "rucksack": ["backpack"],
            "parka": ["down jacket"],
        },
        "stopWords": ["a", "and", "for", "of", "the"],
        "faceting": { "maxValuesPerFacet": 60, "sortFacetValuesBy": { "tags": "count" } },
        // So that a search can show the whole catalogue: the comparison needs complete rankings.
        "pagination": { "maxTotalHits": 10_000 },
    })
}

/// Document `number`. Each draws from a generator of its own, so that none moves the others.
pub(crate) fn document(number: usize) -> Value {
    let mut random = Random::new(SEED.wrapping_add((number as u64).wrapping_mul(0x9e37_79b9)));
    let r = &mut random;
    let kind = r.pick(words::KINDS);
    let brand = r.word(words::BRANDS);
    let quality = r.word(words::QUALITIES);
    let place = *r.pick(words::PLACES);
    let colour = r.word(words::COLOURS);
    let tag_count = r.below(7);
    let tags = r.several(words::TAGS, tag_count);

    let mut out = Map::new();
    let mut put = |name: &str, value: Value| {
        out.insert(name.to_owned(), value);
    };
    put(PRIMARY_KEY, json!(format!("og-{number:05}")));
    put("title", json!(title(r, brand, quality, kind)));
    put("description", json!(description(r, brand, kind, colour, &tags, place.0)));
    put("brand", json!(brand));
    put("categories", json!(kind.categories));
    put("tags", json!(tags));
    match r.below(20) {
        0 => put("colour", Value::Null),
        1 => {}
        2 => put("colour", json!([colour, r.word(words::COLOURS)])),
        _ => put("colour", json!(colour)),
    }
    let cents = r.between((kind.price.0 * 100, kind.price.1 * 100)) / 5 * 5;
    put("price", json!(cents as f64 / 100.0));
    match r.below(4) {
        0 => put("sale_price", json!((cents * r.between((60, 95)) / 100) as f64 / 100.0)),
        1 => put("sale_price", Value::Null),
        _ => {}
    }
    // Products without a review have no rating.
    let reviews = if r.chance(12) { 0 } else { r.below(900) * r.below(100) / 90 };
    put("reviews", json!(reviews));
    let rating = json!(r.between((18, 50)) as f64 / 10.0);
    put("rating", if reviews == 0 { Value::Null } else { rating });
    let stock = if r.chance(25) { 0 } else { r.below(250) };
    put("stock", json!(stock));
    put("in_stock", json!(stock > 0));
    if r.chance(40) {
        put("vegan", json!(r.chance(70)));
    }
    let weight = r.between(kind.weight) / 5 * 5;
    put("weight_g", json!(weight));
    if r.chance(60) {
        let (length, width) = (r.between((5, 220)), r.between((3, 90)));
        put("dimensions", json!({ "length_cm": length, "width_cm": width }));
    }
    if let Some(sizes) = sizes(r, kind.sizes) {
        put("sizes", sizes);
    }
    let released = FIRST_DAY + r.below(11 * 365) * DAY;
    put("released", json!(iso_date(released / DAY)));
    put("released_at", json!(released));
    if r.chance(8) {
        put("discontinued", json!(iso_date(released / DAY + r.between((200, 2_000)))));
    } else if r.chance(30) {
        put("discontinued", Value::Null);
    }
    put("city", json!(place.0));
    put("country", json!(place.1));
    if r.chance(85) {
        // Within about 25 km of the town, in steps of 0.0001 degrees.
        let step = |r: &mut Random, at: f64| {
            ((at * 10_000.0).round() + r.below(4_001) as f64 - 2_000.0) / 10_000.0
        };
        let (lat, lng) = (step(r, place.2), step(r, place.3));
        put("_geo", json!({ "lat": lat, "lng": lng }));
    }
    Value::Object(out)
}

fn title(r: &mut Random, brand: &str, quality: &str, kind: &Kind) -> String {
    let name = capital(kind.name);
    match r.below(4) {
        0 => format!("{brand} {name} {}", r.between((1, 9)) * 100),
        1 => format!("{} {} by {brand}", capital(quality), kind.name),
        2 => format!("{brand} {} {}, {}", capital(quality), kind.name, r.word(words::COLOURS)),
        _ => format!("{brand} {} {}", capital(quality), kind.name),
    }
}

fn description(
    r: &mut Random,
    brand: &str,
    kind: &Kind,
    colour: &str,
    tags: &[String],
    city: &str,
) -> String {
    let mut text = String::from(r.word(words::OPENINGS));
    let details = r.between((1, 3));
    for detail in r.several(words::DETAILS, details) {
        text.push(' ');
        text += &detail;
    }
    if r.chance(70) {
        text.push(' ');
        text += r.word(words::ENDINGS);
    }
    let tag = tags.first().map_or("everyday", String::as_str);
    text.replace("{q}", r.word(words::QUALITIES))
        .replace("{n}", kind.name)
        .replace("{b}", brand)
        .replace("{c}", colour)
        .replace("{t}", tag)
        .replace("{p}", city)
}

fn sizes(r: &mut Random, sizes: Sizes) -> Option<Value> {
    let from = r.below(4);
    let letters = ["XS", "S", "M", "L", "XL", "XXL"];
    Some(match sizes {
        Sizes::None => return None,
        Sizes::Letters => json!(letters[from as usize..(from + 3).min(6) as usize]),
        Sizes::Numbers => json!((36 + from..44 + from).collect::<Vec<_>>()),
        Sizes::Mixed => json!(["one size", 36 + from, 40 + from]),
    })
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// The date of a day since 1970-01-01, after Howard Hinnant's `civil_from_days`.
fn iso_date(days: u64) -> String {
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offset basis of FNV-1a, 64 bits.
    const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

    #[test]
    fn the_catalogue_never_drifts() {
        let hash = documents(DOCUMENTS).fold(FNV_START, |hash, document| {
            document.to_string().bytes().fold(hash, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            })
        });
        assert_eq!(format!("{hash:016x}"), "dda7e910f352d738");
        // A longer catalogue begins with the shorter one.
        assert_eq!(documents(10).last(), documents(20).nth(9));
    }

    #[test]
    fn every_kind_of_value_occurs() {
        let all: Vec<Value> = documents(DOCUMENTS).collect();
        let count = |test: &dyn Fn(&Value) -> bool| all.iter().filter(|doc| test(doc)).count();
        assert!(count(&|doc| doc["rating"].is_null()) > 100);
        assert!(count(&|doc| doc.get("_geo").is_none()) > 500);
        assert!(count(&|doc| doc.get("vegan").is_none()) > 1_000);
        assert!(count(&|doc| doc["colour"].is_array()) > 100);
        assert!(count(&|doc| doc.get("sale_price").is_some_and(Value::is_null)) > 500);
        assert!(count(&|doc| doc["sizes"][0].is_number()) > 500);
        assert!(count(&|doc| doc["sizes"][0].is_string()) > 500);
        assert!(all.iter().all(|doc| doc["price"].as_f64().is_some_and(|price| price >= 5.0)));
        let holes = count(&|doc| doc["description"].as_str().is_none_or(|text| text.contains('{')));
        assert_eq!(holes, 0);
    }

    #[test]
    fn days_since_1970_become_iso_dates() {
        assert_eq!(iso_date(0), "1970-01-01");
        assert_eq!(iso_date(FIRST_DAY / DAY), "2015-01-01");
        assert_eq!(iso_date(19_782), "2024-02-29");
        assert_eq!(iso_date(19_783), "2024-03-01");
    }
}
