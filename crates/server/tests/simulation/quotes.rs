//! Two who watch the same feed.

use std::{cell::RefCell, rc::Rc};

use anyhow::{Result, ensure};
use shared_proto::fourmodes::v1::{
    Quote, WatchQuotesRequest, server_streaming_service_client::ServerStreamingServiceClient,
    watch_quotes_response::Event,
};
use tonic::Status;
use turmoil::Sim;

use crate::{
    Story,
    network::{connect, may_happen, pause},
    tell,
};

const WATCHERS: [&str; 2] = ["dora", "emil"];
const QUOTES: usize = 800;

type Seen = Rc<RefCell<Vec<Quote>>>;

pub(crate) struct Quotes {
    seen: Vec<Seen>,
}

impl Quotes {
    pub(crate) fn start(sim: &mut Sim<'_>, clients: &mut Vec<&'static str>, story: &Story) -> Self {
        let seen = WATCHERS.map(|name| {
            clients.push(name);
            let (seen, story) = (Seen::default(), story.clone());
            let own = seen.clone();
            sim.client(name, async move {
                while own.borrow().len() < QUOTES {
                    if let Err(status) = watch(&own, QUOTES).await? {
                        tell(&story, format!("{name}: {:?} after {}", status.code(), own.borrow().len()));
                        may_happen(&status)?;
                    }
                    pause(500).await;
                }
                tell(&story, format!("{name} is done"));
                Ok(())
            });
            seen
        });
        Self { seen: seen.into() }
    }

    /// By what the feed has kept.
    pub(crate) async fn judge(&self) -> Result<()> {
        for seen in &self.seen {
            let seen = seen.take();
            // The first is known, so that the epoch is asked for as well.
            let kept = Seen::new(RefCell::new(seen[..1].to_vec()));
            while kept.borrow().len() < seen.len() {
                if let Err(status) = watch(&kept, seen.len()).await? {
                    may_happen(&status)?;
                }
                pause(500).await;
            }
            ensure!(*kept.borrow() == *seen, "the history has other quotes than what was pushed");
        }
        Ok(())
    }
}

/// Goes on after what was seen.
async fn watch(seen: &Seen, most: usize) -> Result<Result<(), Status>> {
    let Some(channel) = connect().await else { return Ok(Ok(())) };
    let last = seen.borrow().last().cloned();
    let request = WatchQuotesRequest {
        interval: Some(prost_types::Duration { seconds: 0, nanos: 20_000_000 }),
        from_sequence: last.as_ref().map(|last| last.sequence + 1),
        epoch: last.as_ref().and_then(|last| last.epoch),
        ..WatchQuotesRequest::default()
    };
    let called = ServerStreamingServiceClient::new(channel).watch_quotes(request).await;
    let mut events = match called {
        Ok(events) => events.into_inner(),
        Err(status) => return Ok(Err(status)),
    };
    while seen.borrow().len() < most {
        match events.message().await {
            Ok(Some(response)) => {
                if let Some(Event::Quote(quote)) = response.event {
                    if let Some(last) = seen.borrow().last() {
                        let (expected, sequence) = (last.sequence + 1, quote.sequence);
                        ensure!(sequence == expected, "quote {sequence} instead of {expected}");
                        ensure!(quote.epoch == last.epoch, "the feed began anew");
                    }
                    seen.borrow_mut().push(quote);
                }
            }
            Ok(None) => break,
            Err(status) => return Ok(Err(status)),
        }
    }
    Ok(Ok(()))
}
