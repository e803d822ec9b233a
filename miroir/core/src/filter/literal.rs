//! Which ids a literal finds.

use super::Text;
use crate::documents::IdCase;

/// Values are compared up to here, in bytes of their normal form.
const CUT: usize = 468;

impl Text {
    /// Every id that `primary key = this` can find in an index whose ids have letters of these
    /// cases, in no
    /// order. `None` if that cannot be told, or if there are more than `most`.
    ///
    /// Strings are compared by their normal form: trimmed, lower case (and decomposed; what is not
    /// ASCII is left alone here, ids are). Numbers are compared as `f64`, with documents whose id is
    /// a JSON number: an integer of 64 bits, with sign or without.
    pub fn ids(&self, id_case: IdCase, most: usize) -> Option<Vec<String>> {
        let text = self.plain()?.trim();
        if text.len() >= CUT || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return None;
        }
        let mut ids = spellings(text, id_case, most)?;
        if let Some(number) = text.parse::<f64>().ok().filter(|number| number.is_finite()) {
            ids.extend(integers(number, most)?);
        }
        Some(ids)
    }
}

/// The ids that differ from a text in the case of letters only, itself included; none if it is no
/// id.
fn spellings(text: &str, id_case: IdCase, most: usize) -> Option<Vec<String>> {
    let is_id = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if text.is_empty() || !text.bytes().all(is_id) {
        return Some(Vec::new());
    }
    let count = text.bytes().filter(u8::is_ascii_alphabetic).count();
    match id_case {
        _ if count == 0 => return Some(vec![text.to_owned()]),
        IdCase { lower: false, upper: false } => return Some(Vec::new()),
        IdCase { lower: true, upper: false } => return Some(vec![text.to_ascii_lowercase()]),
        IdCase { lower: false, upper: true } => return Some(vec![text.to_ascii_uppercase()]),
        IdCase { lower: true, upper: true } => {}
    }
    if count >= usize::BITS as usize || 1_usize << count > most {
        return None;
    }
    let spelling = |which: usize| {
        let mut nth = 0;
        let spelled = text.chars().map(|c| {
            if !c.is_ascii_alphabetic() {
                return c;
            }
            nth += 1;
            let upper = (which >> (nth - 1)) & 1 == 1;
            if upper { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }
        });
        spelled.collect()
    };
    Some((0..1 << count).map(spelling).collect())
}

/// The integers an id may be that are this number once they are an `f64`.
fn integers(number: f64, most: usize) -> Option<Vec<String>> {
    const LEAST: i128 = i64::MIN as i128;
    const GREATEST: i128 = u64::MAX as i128;
    if number.fract() != 0.0 || number < LEAST as f64 || number > GREATEST as f64 {
        return Some(Vec::new());
    }
    let same = |integer: &i128| {
        (LEAST..=GREATEST).contains(integer) && (*integer as f64).total_cmp(&(number + 0.0)).is_eq()
    };
    let middle = number as i128;
    let up = (middle..).take_while(|integer| *integer == middle || same(integer));
    let down = (1..).map(|step| middle - step).take_while(same);
    let found: Vec<i128> = up.take(most + 1).chain(down.take(most + 1)).filter(same).collect();
    (found.len() <= most).then(|| found.iter().map(i128::to_string).collect())
}
