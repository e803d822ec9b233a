//! Writing merged hits: the bytes they came in as, less what the client did not ask for.

use std::cell::Cell;

use serde_json::{Map, Value};

use super::details::{Exact, Kind, Rule};
use super::hit::{Field, FieldKind, Hit};
use super::hits::{HitOptions, MergedHits, Placed};
use super::page::Page;
use super::scan::{self, copy_object_without, is_reserved, write_int, write_json};
use super::score::{self, Ranks};

impl MergedHits {
    /// Appends the page as a JSON array.
    pub fn write(&self, pages: &[Page], options: &HitOptions, out: &mut Vec<u8>) {
        let formats = pages.iter().any(formatted);
        out.push(b'[');
        for (at, placed) in self.placed.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            self.write_hit(pages, placed, options, out);
            if let Some(page) = pages.get(placed.leaf).filter(|page| formats && !formatted(page)) {
                plain(page, placed.hit, options, out);
            }
        }
        out.push(b']');
    }

    /// Appends one hit as a JSON object.
    pub fn write_hit(
        &self,
        pages: &[Page],
        placed: &Placed,
        options: &HitOptions,
        out: &mut Vec<u8>,
    ) {
        self.write_hit_with(pages, placed, options, None, out);
    }

    /// Appends one hit with a member of Miroir's own, after the document's fields.
    pub(super) fn write_hit_with(
        &self,
        pages: &[Page],
        placed: &Placed,
        options: &HitOptions,
        mut extra: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) {
        let Some(page) = pages.get(placed.leaf) else { return };
        let Some(hit) = page.hits.get(placed.hit) else { return };
        let body = &page.body[..];
        out.push(b'{');
        let first = Cell::new(true);
        let comma = |out: &mut Vec<u8>| {
            if !first.replace(false) {
                out.push(b',');
            }
        };
        // Fields that stay and follow each other leave as one copy.
        let mut run: Option<(u32, u32)> = None;
        let flush = |run: &mut Option<(u32, u32)>, out: &mut Vec<u8>| {
            if let Some((start, end)) = run.take() {
                comma(out);
                out.extend_from_slice(&body[start as usize..end as usize]);
            }
        };
        for field in page.fields(hit) {
            if !matches!(field.kind, FieldKind::Plain | FieldKind::Order | FieldKind::Reserved)
                && let Some(extra) = extra.take()
            {
                flush(&mut run, out);
                comma(out);
                out.extend_from_slice(extra);
            }
            match decide(field, body, options, placed) {
                FieldAction::Keep => {
                    run = Some((run.map_or(field.key.start, |run| run.0), field.value.end));
                }
                FieldAction::Drop => flush(&mut run, out),
                FieldAction::Rewrite => {
                    flush(&mut run, out);
                    comma(out);
                    out.extend_from_slice(field.key.of(body));
                    out.push(b':');
                    self.rewrite(page, hit, field, placed, options, out);
                }
            }
        }
        flush(&mut run, out);
        if let Some(extra) = extra {
            comma(out);
            out.extend_from_slice(extra);
        }
        out.push(b'}');
    }

    fn rewrite(
        &self,
        page: &Page,
        hit: &Hit,
        field: &Field,
        placed: &Placed,
        options: &HitOptions,
        out: &mut Vec<u8>,
    ) {
        let body = &page.body[..];
        let raw = field.value.of(body);
        match field.kind {
            FieldKind::Score => match placed.score {
                Some(score) => write_json(out, &score),
                None => out.extend_from_slice(raw),
            },
            FieldKind::Details => {
                let ranks = placed.ranks.map_or(&[][..], |(start, len)| {
                    self.ranks.get(start as usize..(start + len) as usize).unwrap_or_default()
                });
                write_details(body, page.rules(hit), ranks, out);
            }
            _ => {
                let start = out.len();
                let copied = copy_object_without(out, raw, |name| {
                    is_reserved(name)
                        || options.drop_formatted.iter().any(|drop| drop.as_bytes() == name)
                });
                if copied.is_none() {
                    out.truncate(start);
                    out.extend_from_slice(raw);
                }
            }
        }
    }
}

/// Whether a leaf formats its hits.
fn formatted(page: &Page) -> bool {
    page.field(0, "_formatted").is_some()
}

/// Adds `_formatted` to a hit of a leaf that knows none of the attributes to format, while another
/// leaf does: the fields as they are, with numbers as text.
fn plain(page: &Page, at: usize, options: &HitOptions, out: &mut Vec<u8>) {
    let Some(hit) = page.hits.get(at) else { return };
    let mut fields = Map::new();
    for field in page.fields(hit) {
        let name = field.key.inner(&page.body);
        let added = |drop: &String| drop.as_bytes() == name;
        if field.kind != FieldKind::Plain
            || matches!(name, b"_vectors" | b"_geoDistance" | b"_federation")
            || options.drop_formatted.iter().any(added)
        {
            continue;
        }
        let key = scan::text(field.key.of(&page.body));
        let value = serde_json::from_slice::<Value>(field.value.of(&page.body));
        if let (Some(key), Ok(mut value)) = (key, value) {
            spell(&mut value);
            fields.insert(key.into_owned(), value);
        }
    }
    if out.pop() == Some(b'}') {
        if out.last() != Some(&b'{') {
            out.push(b',');
        }
        out.extend_from_slice(b"\"_formatted\":");
        write_json(out, &fields);
        out.push(b'}');
    }
}

/// Numbers as text, all the way down.
fn spell(value: &mut Value) {
    match value {
        Value::Number(number) => *value = Value::String(number.to_string()),
        Value::Array(items) => items.iter_mut().for_each(spell),
        Value::Object(members) => members.values_mut().for_each(spell),
        _ => {}
    }
}

enum FieldAction {
    Keep,
    Drop,
    Rewrite,
}

fn decide(field: &Field, body: &[u8], options: &HitOptions, placed: &Placed) -> FieldAction {
    match field.kind {
        FieldKind::Order | FieldKind::Reserved => FieldAction::Drop,
        FieldKind::Score if !options.show_score => FieldAction::Drop,
        FieldKind::Score if placed.score.is_some() => FieldAction::Rewrite,
        FieldKind::Details if !options.show_details => FieldAction::Drop,
        FieldKind::Details => FieldAction::Rewrite,
        FieldKind::Mirror { reserved } if reserved || !options.drop_formatted.is_empty() => {
            FieldAction::Rewrite
        }
        FieldKind::Plain
            if options.drop_fields.iter().any(|drop| drop.as_bytes() == field.key.inner(body)) =>
        {
            FieldAction::Drop
        }
        _ => FieldAction::Keep,
    }
}

/// Writes score details with the given ranks; entries that did not change go out as they came.
fn write_details(body: &[u8], rules: &[Rule], ranks: &[Ranks], out: &mut Vec<u8>) {
    out.push(b'{');
    let mut first = true;
    for (at, rule) in rules.iter().enumerate() {
        // A rule over one of Miroir's own fields (none is ever sent) would show its name.
        if is_reserved(rule.key.inner(body)) {
            continue;
        }
        if !std::mem::replace(&mut first, false) {
            out.push(b',');
        }
        out.extend_from_slice(rule.key.of(body));
        out.push(b':');
        let rewritten = ranks.get(at).is_some_and(|ranks| write_rule(rule, ranks, out));
        if !rewritten {
            out.extend_from_slice(rule.value.of(body));
        }
    }
    out.push(b'}');
}

/// Writes an entry whose maxima may have changed; `false` (and nothing written) when it is printed
/// the same whatever its maxima.
fn write_rule(rule: &Rule, ranks: &Ranks, out: &mut Vec<u8>) -> bool {
    let (score, kind) = match rule.kind {
        Kind::Words { .. }
        | Kind::Typo { .. }
        | Kind::Proximity(_)
        | Kind::AttributeRank(_)
        | Kind::WordPosition(_) => (ranks.first.score(), &rule.kind),
        Kind::Attribute { .. } | Kind::Exactness { level: Exact::No, counts: Some(_) } => {
            (score::local(ranks), &rule.kind)
        }
        _ => return false,
    };
    if !ranks.first.known() {
        return false;
    }
    out.extend_from_slice(b"{\"order\":");
    write_int(out, u64::from(rule.order));
    match kind {
        Kind::Words { .. } => {
            out.extend_from_slice(b",\"matchingWords\":");
            write_int(out, u64::from(ranks.first.rank));
            out.extend_from_slice(b",\"maxMatchingWords\":");
            write_int(out, u64::from(ranks.first.max));
        }
        Kind::Typo { count, .. } => {
            out.extend_from_slice(b",\"typoCount\":");
            write_int(out, u64::from(*count));
            out.extend_from_slice(b",\"maxTypoCount\":");
            write_int(out, u64::from(ranks.first.max.saturating_sub(1)));
        }
        Kind::Attribute { .. } => {
            out.extend_from_slice(b",\"attributeRankingOrderScore\":");
            write_json(out, &ranks.first.score());
            out.extend_from_slice(b",\"queryWordDistanceScore\":");
            write_json(out, &ranks.second.score());
        }
        Kind::Exactness { .. } => {
            out.extend_from_slice(b",\"matchType\":\"noExactMatch\",\"matchingWords\":");
            write_int(out, u64::from(ranks.second.rank.saturating_sub(1)));
            out.extend_from_slice(b",\"maxMatchingWords\":");
            write_int(out, u64::from(ranks.second.max.saturating_sub(1)));
        }
        _ => {}
    }
    out.extend_from_slice(b",\"score\":");
    write_json(out, &score);
    out.push(b'}');
    true
}
