//! Channels: Pub/Sub, on a connection per listener that is made anew when it broke.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use miroir_store::StoreFuture;
use miroir_store::records::{Signal, Signals};
use redis::aio::PubSubStream;
use redis::cmd;

use crate::connection::SharedConnection;

/// Time between two attempts to listen again.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct RedisSignals(pub(crate) Arc<SharedConnection>);

struct Listener {
    connection: Arc<SharedConnection>,
    channel: String,
    heard: Option<PubSubStream>,
    first: bool,
}

impl Listener {
    /// What is heard next.
    async fn next(&mut self) -> Signal {
        if let Some(heard) = &mut self.heard
            && let Some(message) = heard.next().await
        {
            // What is not a text was not said by Miroir.
            return message.get_payload().map_or(Signal::Gap, Signal::Said);
        }
        self.heard = None;
        loop {
            if !std::mem::take(&mut self.first) {
                tokio::time::sleep(PAUSE).await;
            }
            match self.connection.subscribe(&self.channel).await {
                Ok(heard) => {
                    self.heard = Some(heard);
                    return Signal::Gap;
                }
                Err(error) => tracing::debug!(%error, "cannot listen to Redis"),
            }
        }
    }
}

impl Signals for RedisSignals {
    fn say(&self, channel: &str, text: &str) -> StoreFuture<'_, ()> {
        let (channel, text) = (self.0.key(channel), text.to_owned());
        Box::pin(async move {
            // To say it twice does no harm.
            self.0.read(cmd("PUBLISH").arg(channel).arg(text)).await.map(drop)
        })
    }

    fn listen(&self, channel: &str) -> BoxStream<'static, Signal> {
        let connection = Arc::clone(&self.0);
        let channel = connection.key(channel);
        let listener = Listener { connection, channel, heard: None, first: true };
        stream::unfold(
            listener,
            |mut listener| async move { Some((listener.next().await, listener)) },
        )
        .boxed()
    }
}
