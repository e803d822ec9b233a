//! Bodies of requests, read to their end, and what is said of those that cannot be.

use std::fmt;
use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::deadline::Deadline;
use crate::error::{BoxError, Error};

/// How many times as long as its pieces a whole body may take.
const WHOLE: u32 = 20;

/// What matters of a body.
#[derive(Clone, Copy, Debug)]
pub struct Payload {
    /// It is a payload of documents, not the JSON of another request.
    pub documents: bool,
    /// Its length, if the client said so and nothing had to be decompressed.
    pub length: Option<usize>,
}

impl Payload {
    /// Reads a body of at most `most` bytes. Whoever sends something at least every `patience` is
    /// waited for, twenty times as long in all.
    ///
    /// # Errors
    /// `payload_too_large`; `bad_request` for a body that ends too early, or cannot be unpacked;
    /// `miroir_deadline_exceeded` for one that takes too long.
    pub async fn read<B>(&self, body: B, most: usize, patience: Duration) -> Result<Bytes, Error>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let whole = Deadline::after(patience.saturating_mul(WHOLE));
        let mut body = pin!(Limited::new(body, most));
        let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
        while let Some(frame) = whole.min(patience).run(body.frame()).await? {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) if error.is::<LengthLimitError>() => {
                    return Err(Error::api("payload_too_large", self.too_large(most)));
                }
                Err(error) => return Err(self.unfinished(&*error)),
            };
            let Ok(data) = frame.into_data() else { continue };
            // Most bodies come in one piece, which is not copied.
            if first.is_empty() {
                first = data;
            } else {
                if rest.is_empty() {
                    rest.extend_from_slice(&first);
                }
                rest.extend_from_slice(&data);
            }
        }
        Ok(if rest.is_empty() { first } else { rest.freeze() })
    }

    /// What a node says of a body that could not be read to its end.
    fn unfinished(&self, error: &(dyn std::error::Error + 'static)) -> Error {
        if self.documents {
            let message = "The provided payload is incomplete and cannot be parsed";
            return Error::api("bad_request", message);
        }
        let mut cause = Some(error);
        while let Some(other) = cause.filter(|error| !error.is::<io::Error>()) {
            cause = other.source();
        }
        let reason: Option<&dyn fmt::Debug> = cause.map(|error| error as _);
        let message = format!(
            "Error that occur during reading payload: payload reached EOF before completing: \
             {reason:?}"
        );
        Error::api("bad_request", message)
    }

    /// What a node says. (Of a JSON body whose length it knows it says so with the code `internal`.)
    fn too_large(&self, limit: usize) -> String {
        match (self.documents, self.length) {
            (true, _) => format!(
                "The provided payload reached the size limit. The maximum accepted payload size is \
                 {}.",
                human(limit)
            ),
            (false, Some(length)) => format!(
                "JSON payload ({length} bytes) is larger than allowed (limit: {limit} bytes)."
            ),
            (false, None) => format!("JSON payload has exceeded limit ({limit} bytes)."),
        }
    }
}

/// A size as Meilisearch prints its limit: in binary units if it is a whole number of KiB.
fn human(bytes: usize) -> String {
    let (base, units) = if bytes.is_multiple_of(1024) {
        (1024.0, ["B", "KiB", "MiB", "GiB", "TiB"])
    } else {
        (1000.0, ["B", "KB", "MB", "GB", "TB"])
    };
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    format!("{value} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use tokio::time::{Instant, sleep};

    use super::*;

    const JSON: Payload = Payload { documents: false, length: None };
    const SECOND: Duration = Duration::from_secs(1);
    const ALMOST: Duration = Duration::from_millis(999);

    /// A body in pieces, with a pause before each, and perhaps an error at its end.
    fn pieces(
        texts: &'static [&'static str],
        pause: Duration,
        error: Option<io::Error>,
    ) -> impl http_body::Body<Data = Bytes, Error = io::Error> + Send + 'static {
        let texts = texts.iter().map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes()))));
        let all: Vec<_> = texts.chain(error.map(Err)).collect();
        StreamBody::new(stream::unfold(all.into_iter(), move |mut all| async move {
            sleep(pause).await;
            all.next().map(|piece| (piece, all))
        }))
    }

    fn said(error: &Error) -> String {
        let body: serde_json::Value = serde_json::from_slice(&error.render().1.unwrap()).unwrap();
        format!("{} {}", body["code"].as_str().unwrap(), body["message"].as_str().unwrap())
    }

    #[test]
    fn limits_are_printed_as_a_node_prints_them() {
        for (bytes, text) in [
            (3, "3 B"),
            (1024, "1 KiB"),
            (1536, "1.536 KB"),
            (2_000_000, "2 MB"),
            (104_857_600, "100 MiB"),
            (1_610_612_736, "1.5 GiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_waited_for_while_it_comes() {
        for (texts, wanted) in
            [(&[][..], ""), (&["abc"], "abc"), (&["a", "", "b", "cd"], "abcd"), (&["", "a"], "a")]
        {
            let body = pieces(texts, ALMOST, None);
            assert_eq!(JSON.read(body, 4, SECOND).await.unwrap(), wanted);
        }
        let begun = Instant::now();
        let slow = JSON.read(pieces(&["a"], SECOND * 2, None), 4, SECOND).await;
        assert!(said(&slow.unwrap_err()).starts_with("miroir_deadline_exceeded"));
        assert_eq!(begun.elapsed(), SECOND);
        let begun = Instant::now();
        let endless = pieces(&["a"; 40], ALMOST, None);
        let slow = JSON.read(endless, 40, SECOND).await;
        assert!(said(&slow.unwrap_err()).starts_with("miroir_deadline_exceeded"));
        assert_eq!(begun.elapsed(), SECOND * WHOLE);
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_said_as_a_node_says_it() {
        let broken = || {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "corrupt");
            pieces(&["a"], Duration::ZERO, Some(error))
        };
        let error = JSON.read(broken(), 4, SECOND).await.unwrap_err();
        assert_eq!(
            said(&error),
            "bad_request Error that occur during reading payload: payload reached EOF before \
             completing: Some(Custom { kind: InvalidInput, error: \"corrupt\" })"
        );
        let documents = Payload { documents: true, ..JSON };
        let error = documents.read(broken(), 4, SECOND).await.unwrap_err();
        let wanted = "bad_request The provided payload is incomplete and cannot be parsed";
        assert_eq!(said(&error), wanted);
        let large = || pieces(&["abc", "de"], Duration::ZERO, None);
        let error = documents.read(large(), 4, SECOND).await.unwrap_err();
        assert!(said(&error).ends_with("The maximum accepted payload size is 4 B."));
        let error = JSON.read(large(), 4, SECOND).await.unwrap_err();
        assert!(said(&error).ends_with("JSON payload has exceeded limit (4 bytes)."));
    }
}
