//! Headers of capabilities, read and written by whom they belong to.
//!
//! A layer that has headers hands out a [`HeaderCodec`] with
//! [`Placed::codec`](crate::stack::Placed::codec); the stack collects them, and
//! [`Decode`](crate::http::Decode) asks each about every request, answer and error. A header whose
//! layer is switched off means nothing.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::context::Context;
use crate::error::Error;
use crate::extension::Extension;
use crate::meta::Meta;

/// Longest value of a header that names something, in bytes.
const MAX_NAME: usize = 255;

/// Reads and writes the headers of one capability.
pub trait HeaderCodec: fmt::Debug + Send + Sync {
    /// Reads what the client asks for, and leaves it in the context. The principal is known by then.
    ///
    /// # Errors
    /// `invalid_header_value` for what cannot be read, with the name of the header.
    fn decode(&self, headers: &HeaderMap, cx: &mut Context) -> Result<(), Error> {
        let _ = (headers, cx);
        Ok(())
    }

    /// Writes what an answer says of itself.
    fn encode(&self, meta: &Meta, headers: &mut HeaderMap) {
        let _ = (meta, headers);
    }

    /// Writes what an error says beside its body.
    fn encode_error(&self, error: &Error, headers: &mut HeaderMap) {
        let _ = (error, headers);
    }
}

/// Codecs, in the order in which they are asked.
pub type Codecs = Vec<Arc<dyn HeaderCodec>>;

type Read = Box<dyn Fn(&HeaderMap, &mut Context) -> Result<(), Error> + Send + Sync>;
type Write = Box<dyn Fn(&Meta, &mut HeaderMap) + Send + Sync>;

/// The codec of headers that are of the usual kinds. Names are in lower case.
///
/// ```
/// use miroir_pipeline::codec::{HeaderCodec, Headers};
/// use miroir_pipeline::extension::Extension;
/// use miroir_pipeline::meta::Meta;
/// use miroir_pipeline::Context;
/// use std::time::Duration;
///
/// #[derive(Debug, PartialEq)]
/// struct Patience(u64);
/// #[derive(Debug)]
/// struct Late;
///
/// impl Extension for Patience {}
/// impl Extension for Late {}
///
/// let codec = Headers::new()
///     .integer("x-patience", 1..=60, |seconds, cx| cx.insert(Patience(seconds)))
///     .mark::<Late>("x-late");
///
/// let mut cx = Context::client("a", Duration::from_secs(1));
/// let mut headers = http::HeaderMap::new();
/// headers.insert("x-patience", 7.into());
/// codec.decode(&headers, &mut cx).unwrap();
/// assert_eq!(cx.get(), Some(&Patience(7)));
/// headers.insert("x-patience", 70.into());
/// assert!(codec.decode(&headers, &mut cx).is_err());
///
/// let mut meta = Meta::default();
/// meta.insert(Late);
/// codec.encode(&meta, &mut headers);
/// assert_eq!(headers["x-late"], "true");
/// ```
#[derive(Default)]
#[must_use]
pub struct Headers {
    names: Vec<&'static str>,
    reads: Vec<Read>,
    writes: Vec<Write>,
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Headers").field(&self.names).finish()
    }
}

impl Headers {
    /// No headers yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn read(
        mut self,
        header: &'static str,
        read: impl Fn(&HeaderMap, &mut Context) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Self {
        self.names.push(header);
        self.reads.push(Box::new(read));
        self
    }

    /// A request header that is an [`integer`]; `take` leaves it in the context.
    pub fn integer(
        self,
        header: &'static str,
        range: RangeInclusive<u64>,
        take: fn(u64, &mut Context),
    ) -> Self {
        self.read(header, move |headers, cx| {
            if let Some(number) = integer(headers, header, range.clone())? {
                take(number, cx);
            }
            Ok(())
        })
    }

    /// A request header that is a [`name`]; `take` leaves it in the context.
    pub fn name(self, header: &'static str, take: fn(Arc<str>, &mut Context)) -> Self {
        self.read(header, move |headers, cx| {
            if let Some(name) = name(headers, header)? {
                take(name, cx);
            }
            Ok(())
        })
    }

    /// A response header with what `show` makes of a `T`, where an answer has one.
    pub fn value<T: Extension>(
        mut self,
        header: &'static str,
        show: fn(&T) -> HeaderValue,
    ) -> Self {
        self.names.push(header);
        self.writes.push(Box::new(move |meta, headers| {
            if let Some(value) = meta.get::<T>() {
                headers.insert(HeaderName::from_static(header), show(value));
            }
        }));
        self
    }

    /// A response header that is `true` where an answer has a `T`, and absent elsewhere.
    pub fn mark<T: Extension>(self, header: &'static str) -> Self {
        self.value::<T>(header, |_| HeaderValue::from_static("true"))
    }
}

impl HeaderCodec for Headers {
    fn decode(&self, headers: &HeaderMap, cx: &mut Context) -> Result<(), Error> {
        self.reads.iter().try_for_each(|read| read(headers, cx))
    }

    fn encode(&self, meta: &Meta, headers: &mut HeaderMap) {
        self.writes.iter().for_each(|write| write(meta, headers));
    }
}

/// The value of a header that is a whole number within a range; `None` without the header.
///
/// # Errors
/// `invalid_header_value` for everything else.
pub fn integer(
    headers: &HeaderMap,
    name: &str,
    range: RangeInclusive<u64>,
) -> Result<Option<u64>, Error> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    number.filter(|number| range.contains(number)).map(Some).ok_or_else(|| {
        let what = if range == (0..=u64::MAX) {
            "a non-negative integer".to_owned()
        } else {
            format!("an integer from {} to {}", range.start(), range.end())
        };
        Error::api("invalid_header_value", format!("Header `{name}` must be {what}."))
    })
}

/// The value of a header that names something, 1 to 255 visible characters of ASCII; `None` without
/// the header.
///
/// # Errors
/// `invalid_header_value` for everything else.
pub fn name(headers: &HeaderMap, name: &str) -> Result<Option<Arc<str>>, Error> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().ok().map(str::trim);
    let text = text.filter(|text| (1..=MAX_NAME).contains(&text.len()));
    let text = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
    text.map(|text| Some(Arc::from(text))).ok_or_else(|| {
        let message = format!(
            "Header `{name}` must be 1 to {MAX_NAME} letters, digits or punctuation characters of \
             ASCII, without spaces."
        );
        Error::api("invalid_header_value", message)
    })
}
