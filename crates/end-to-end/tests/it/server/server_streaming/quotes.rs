use std::time::Duration;

use server::config::{Config, Retention};
use shared_proto::fourmodes::v1::{Delivery, Quote, WatchQuotesRequest, watch_quotes_response::Event};
use test_support::{Server, quote, reason, run, server_streaming, within};
use tonic::{Code, Status, Streaming};

use crate::server::binary;

const HOUR: prost_types::Duration = prost_types::Duration { seconds: 3600, nanos: 0 };

async fn watch(
    server: std::net::SocketAddr,
    request: WatchQuotesRequest,
) -> Result<Streaming<shared_proto::fourmodes::v1::WatchQuotesResponse>, Status> {
    Ok(within(server_streaming(server).watch_quotes(request)).await?.into_inner())
}

async fn take(
    stream: &mut Streaming<shared_proto::fourmodes::v1::WatchQuotesResponse>,
    count: usize,
) -> Vec<Quote> {
    let mut quotes = Vec::new();
    while quotes.len() < count {
        quotes.push(quote(within(stream.message()).await.unwrap().expect("the stream ended")));
    }
    quotes
}

#[test]
fn whoever_comes_back_gets_every_quote_after_the_last_one_once() {
    run(async {
        let server = Server::start().await;
        let mut stream = watch(server.address, WatchQuotesRequest::default()).await.unwrap();
        let first = take(&mut stream, 1_000).await;
        drop(stream);
        let (from_sequence, epoch) = (Some(first[999].sequence + 1), first[999].epoch);
        let request = WatchQuotesRequest { from_sequence, epoch, ..Default::default() };
        let rest = take(&mut watch(server.address, request).await.unwrap(), 1_000).await;
        assert!(first.iter().chain(&rest).map(|quote| quote.sequence).eq(1..=2_000));
        assert!(rest.iter().all(|quote| quote.epoch == epoch));
    });
}

#[test]
fn a_feed_goes_on_after_the_server_was_killed() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().to_str().unwrap();
        let mut last = None::<Quote>;
        for _ in 0..3 {
            let server = binary(&["all", "--data-dir", data]).serve();
            let (from, epoch) = last.as_ref().map_or((1, None), |quote| (quote.sequence + 1, quote.epoch));
            let request = WatchQuotesRequest { from_sequence: Some(from), epoch, ..Default::default() };
            let quotes = take(&mut watch(server.address, request).await.unwrap(), 5_000).await;
            assert!(quotes.iter().map(|quote| quote.sequence).eq(from..from + 5_000));
            assert!(epoch.is_none() || quotes[0].epoch == epoch);
            last = quotes.last().cloned();
            drop(server);
        }
    });
}

#[test]
fn a_history_that_is_lost_is_another_epoch_and_not_a_gap() {
    run(async {
        let server = Server::start().await;
        let quote = take(&mut watch(server.address, Default::default()).await.unwrap(), 1).await.remove(0);
        let other = Server::start().await;
        let request = WatchQuotesRequest { from_sequence: Some(2), epoch: quote.epoch, ..Default::default() };
        let refused = watch(other.address, request).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::OutOfRange, "OTHER_EPOCH"));
        let request = WatchQuotesRequest { from_sequence: Some(u64::MAX), ..Default::default() };
        let refused = watch(other.address, request).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::OutOfRange, "NOT_YET"));
    });
}

#[test]
fn what_is_not_kept_is_said_with_the_first_that_is() {
    run(async {
        // Less than is made between two looks at it, and more than is on its way to
        // a reader.
        let retention = Retention { bytes: 500_000, ..Retention::default() };
        let server = Server::with(Config { retention, ..Config::default() }).await;
        // Enough for the feed to have a look at what it keeps.
        let mut stream = watch(server.address, WatchQuotesRequest::default()).await.unwrap();
        let mut seen = 0;
        let refused = loop {
            seen += take(&mut stream, 1 << 14).await.len();
            assert!(seen < 1 << 20, "nothing was forgotten");
            let request = WatchQuotesRequest { from_sequence: Some(1), ..Default::default() };
            if let Err(refused) = watch(server.address, request).await {
                break refused;
            }
        };
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::OutOfRange, "NOT_KEPT"));
    });
}

#[test]
fn a_quiet_feed_has_heartbeats() {
    run(async {
        let config = Config { heartbeat: Duration::from_millis(20), ..Config::default() };
        let server = Server::with(config).await;
        let request = WatchQuotesRequest { interval: Some(HOUR), ..Default::default() };
        let mut stream = watch(server.address, request).await.unwrap();
        quote(within(stream.message()).await.unwrap().unwrap());
        for _ in 0..3 {
            let event = within(stream.message()).await.unwrap().unwrap().event;
            assert!(matches!(event, Some(Event::Heartbeat(_))), "{event:?}");
        }
    });
}

#[test]
fn the_latest_quotes_replace_what_is_late() {
    run(async {
        let server = Server::start().await;
        let mut every = watch(server.address, WatchQuotesRequest::default()).await.unwrap();
        let all = take(&mut every, 20_000).await;
        let request = WatchQuotesRequest {
            from_sequence: Some(1),
            interval: Some(HOUR),
            delivery: Delivery::Latest.into(),
            ..Default::default()
        };
        let latest = take(&mut watch(server.address, request).await.unwrap(), 6).await;
        let symbols: std::collections::BTreeSet<_> = latest.iter().map(|quote| &quote.symbol).collect();
        assert_eq!(symbols.len(), 6, "{latest:?}");
        // Nothing of what was replaced long ago.
        assert!(latest.iter().all(|quote| quote.sequence > all[19_000].sequence), "{latest:?}");
    });
}
