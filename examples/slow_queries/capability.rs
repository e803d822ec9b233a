//! `slow_queries`: tells clients, operators and explanations which searches are slow.
//!
//! A search that takes longer than `slow_queries.after_ms` is answered with `X-Slow-Query: true` and
//! counted in `slow_queries_total{index}`. A client that is more patient, or less, says so with
//! `X-Slow-After`, in milliseconds. What is explained shows the limit as `slow_after_ms`.

use std::sync::Arc;
use std::time::Duration;

use miroir::codec::{HeaderCodec, Headers};
use miroir::explain::Audience;
use miroir::extension::Extension;
use miroir::index::{Operation, Request};
use miroir::options::{Faults, Validate, milliseconds};
use miroir::prelude::*;
use miroir::{Layers, Mount, Parts};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// `slow_queries`: what is slow. The options are the layer as well.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SlowQueries {
    /// Whether searches are watched. True by default.
    enabled: bool,
    /// Time from which on a search is slow. 500 ms by default.
    #[serde(rename = "after_ms", with = "milliseconds")]
    after: Duration,
}

impl Default for SlowQueries {
    fn default() -> Self {
        Self { enabled: true, after: Duration::from_millis(500) }
    }
}

impl Validate for SlowQueries {
    fn validate(&self, faults: &mut Faults) {
        faults.positive(&[("after_ms", self.after.is_zero())]);
    }
}

impl Mount for SlowQueries {
    const NAME: &'static str = "slow_queries";

    fn mount(self, layers: &mut Layers, _: &Parts) {
        if self.enabled {
            layers.index(Stack::new().push(self));
        }
    }
}

/// `X-Slow-After`, in the context of a request. The answer is the same whatever it says.
#[derive(Debug)]
struct SlowAfter(Duration);

/// `X-Slow-Query`, in the `Meta` of an answer.
#[derive(Debug)]
struct Slow;

impl Extension for SlowAfter {}
impl Extension for Slow {
    /// A multi-search is slow where one of its searches is.
    fn holds_for_whole(&self) -> bool {
        true
    }
}

impl Placed for SlowQueries {
    const NAME: &'static str = <Self as Mount>::NAME;

    fn codec(&self) -> Option<Arc<dyn HeaderCodec>> {
        let headers = Headers::new().integer("x-slow-after", 0..=3_600_000, |after, cx| {
            cx.insert(SlowAfter(Duration::from_millis(after)));
        });
        Some(Arc::new(headers.mark::<Slow>("x-slow-query")))
    }
}

miroir::layer!(SlowQueries);

impl Middleware<Request> for SlowQueries {
    fn call<S: StageService<Request>>(&self, it: Request, next: Ready<'_, S>) -> Reply<Request, S> {
        if !matches!(it.op, Operation::Search(_)) {
            return next.pass(it);
        }
        let after = it.cx.get().map_or(self.after, |SlowAfter(after)| *after);
        if let Some(explain) = &it.cx.explain {
            explain.fact("slow_after_ms", (after.as_millis() as u64).into(), Audience::Everybody);
        }
        let next = next.take();
        Reply::boxed(async move {
            let (index, begun) = (it.index.name.to_string(), Instant::now());
            let mut answer = next.run(it).await?;
            if begun.elapsed() >= after {
                metrics::counter!("slow_queries_total", "index" => index).increment(1);
                answer.meta.insert(Slow);
            }
            Ok(answer)
        })
    }
}
