//! Bytes as text.

use std::fmt::Write as _;

/// Bytes as hexadecimal digits, in small letters.
///
/// ```
/// assert_eq!(miroir_api::hexadecimal(&[0, 0x1f, 0xff]), "001fff");
/// ```
#[must_use]
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
