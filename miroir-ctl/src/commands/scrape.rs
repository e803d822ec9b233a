//! A reader of Prometheus' text format: as much of it as Miroir writes.

/// The samples of `/_miroir/metrics`.
pub(super) struct Scrape<'a>(&'a str);

impl<'a> Scrape<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// Labels (as they are written) and values of a metric.
    pub(super) fn samples(&self, name: &str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            Some((labels, value.trim().parse().ok()?))
        })
    }

    /// The value of a metric without labels.
    pub(super) fn value(&self, name: &str) -> Option<f64> {
        self.samples(name).find(|(labels, _)| labels.is_empty()).map(|(_, value)| value)
    }

    /// The value of one label of a metric's first sample.
    pub(super) fn label(&self, name: &str, label: &str) -> Option<&'a str> {
        let (labels, _) = self.samples(name).next()?;
        quoted(labels, label)
    }
}

/// The value of a label that holds no quotes itself.
pub(super) fn quoted<'a>(labels: &'a str, label: &str) -> Option<&'a str> {
    labels.split(',').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (name == label).then(|| value.trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read() {
        let text = "# TYPE a gauge\na 1\na_b 2\nc{x=\"1\",y=\"z\"} 3.5\nc{x=\"2\",y=\"w\"} 4\n";
        let scrape = Scrape::new(text);
        assert_eq!(
            (scrape.value("a"), scrape.value("a_b"), scrape.value("b")),
            (Some(1.0), Some(2.0), None)
        );
        assert_eq!(scrape.samples("c").map(|(_, v)| v).collect::<Vec<_>>(), [3.5, 4.0]);
        assert_eq!(scrape.label("c", "y"), Some("z"));
        assert_eq!(scrape.value("c"), None);
    }
}
