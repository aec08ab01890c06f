//! One request, many responses.

#[cfg(unix)]
mod log;
mod quotes;

use std::{
    collections::HashSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use server::config::Config;
use shared_proto::fourmodes::v1::{Quote, WatchQuotesRequest, WatchSystemRequest};
use test_support::{Server, bad_fields, quote, run, server_streaming, within};
use tonic::Status;
use tonic_types::StatusExt as _;

async fn watch_quotes(address: SocketAddr, request: WatchQuotesRequest) -> Result<Vec<Quote>, Status> {
    let mut stream = server_streaming(address).watch_quotes(request).await?.into_inner();
    let mut quotes = Vec::new();
    while let Some(response) = stream.message().await? {
        quotes.push(quote(response));
    }
    Ok(quotes)
}

fn symbols(symbols: &[&str], count: u64) -> WatchQuotesRequest {
    let symbols = symbols.iter().map(ToString::to_string).collect();
    WatchQuotesRequest { symbols, count, from_sequence: Some(1), ..Default::default() }
}

fn wire(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos })
}

fn prices(quotes: &[Quote]) -> Vec<(&str, i64)> {
    quotes.iter().map(|quote| (quote.symbol.as_str(), quote.price_cents)).collect()
}

#[test]
fn as_many_quotes_come_as_were_asked_for_numbered_from_one() {
    run(async {
        let server = Server::start().await;
        for count in [1, 2, 500] {
            let quotes = watch_quotes(server.address, symbols(&[], count)).await.unwrap();
            assert!(quotes.iter().map(|quote| quote.sequence).eq(1..=count), "{count}: {quotes:?}");
            assert!(quotes.iter().all(|quote| quote.price_cents > 0 && quote.time.is_some()));
        }
    });
}

#[test]
fn only_the_chosen_symbols_are_quoted() {
    run(async {
        let server = Server::start().await;
        let quotes = watch_quotes(server.address, symbols(&["ECHO", "ACME"], 100)).await.unwrap();
        let quoted: HashSet<_> = quotes.iter().map(|quote| quote.symbol.as_str()).collect();
        assert_eq!(quoted, HashSet::from(["ACME", "ECHO"]));
    });
}

#[test]
fn the_seed_decides_the_prices() {
    run(async {
        let [one, two] = [1, 2].map(|quotes_seed| Config { quotes_seed, ..Config::default() });
        let (one, two) = (Server::with(one).await, Server::with(two).await);
        let first = watch_quotes(one.address, symbols(&[], 100)).await.unwrap();
        let again = watch_quotes(one.address, symbols(&[], 100)).await.unwrap();
        let other = watch_quotes(two.address, symbols(&[], 100)).await.unwrap();
        assert_eq!(prices(&first), prices(&again));
        assert_ne!(prices(&first), prices(&other));
    });
}

#[test]
fn an_unknown_symbol_is_refused_with_the_listed_ones() {
    run(async {
        let server = Server::start().await;
        let refused = watch_quotes(server.address, symbols(&["ACME", "NOPE"], 1)).await.unwrap_err();
        assert_eq!(bad_fields(&refused), ["symbols"]);
        let violation = &refused.get_details_bad_request().unwrap().field_violations[0];
        for text in ["NOPE", "ACME, BOLT, CORA, DUNE, ECHO, FLUX"] {
            assert!(violation.description.contains(text), "{violation:?}");
            assert!(refused.message().contains(text), "{refused}");
        }
    });
}

#[test]
fn an_interval_outside_of_its_bounds_is_refused() {
    run(async {
        let server = Server::start().await;
        for interval in
            [wire(-1, 0), wire(0, -1), wire(3600, 1), wire(i64::MAX, i32::MAX), wire(i64::MIN, i32::MIN)]
        {
            let request = WatchQuotesRequest { interval, count: 1, ..Default::default() };
            let refused = watch_quotes(server.address, request).await.unwrap_err();
            assert_eq!(bad_fields(&refused), ["interval"], "{interval:?}");
        }
        let longest = WatchQuotesRequest { interval: wire(3600, 0), count: 1, ..Default::default() };
        assert_eq!(watch_quotes(server.address, longest).await.unwrap().len(), 1);
    });
}

#[test]
fn without_an_interval_quotes_come_in_order_as_fast_as_they_are_read() {
    run(async {
        const COUNT: u64 = 200_000;
        let server = Server::start().await;
        let request = WatchQuotesRequest { count: COUNT, interval: wire(0, 0), ..Default::default() };
        let mut stream = server_streaming(server.address).watch_quotes(request).await.unwrap().into_inner();
        for sequence in 1..=COUNT {
            assert_eq!(quote(stream.message().await.unwrap().unwrap()).sequence, sequence);
        }
        assert!(stream.message().await.unwrap().is_none());
    });
}

#[test]
fn an_interval_paces_the_quotes() {
    run(async {
        let server = Server::start().await;
        let begun = Instant::now();
        let request = WatchQuotesRequest { count: 10, interval: wire(0, 20_000_000), ..Default::default() };
        assert_eq!(watch_quotes(server.address, request).await.unwrap().len(), 10);
        assert!(begun.elapsed() >= Duration::from_millis(9 * 20), "{:?}", begun.elapsed());
    });
}

#[test]
fn system_samples_are_of_this_machine_and_an_interval_apart() {
    run(async {
        let server = Server::start().await;
        let begun = Instant::now();
        let request = WatchSystemRequest { interval: wire(0, 200_000_000), count: 2 };
        let mut stream = server_streaming(server.address).watch_system(request).await.unwrap().into_inner();
        for _ in 0..2 {
            let sample = stream.message().await.unwrap().unwrap();
            let (process, machine) = (sample.process.unwrap(), sample.machine.unwrap());
            assert!(sample.time.is_some());
            assert!((1..machine.memory_total_bytes).contains(&process.memory_bytes), "{sample:?}");
            assert!((0.0..=100.0).contains(&machine.cpu_percent), "{sample:?}");
        }
        assert!(stream.message().await.unwrap().is_none());
        assert!(begun.elapsed() >= Duration::from_millis(2 * 200), "{:?}", begun.elapsed());
    });
}

#[test]
fn system_samples_that_are_far_apart_have_heartbeats_between_them() {
    run(async {
        let config = Config { heartbeat: Duration::from_millis(20), ..Config::default() };
        let server = Server::with(config).await;
        let request = WatchSystemRequest { interval: wire(0, 200_000_000), count: 1 };
        let mut stream = server_streaming(server.address).watch_system(request).await.unwrap().into_inner();
        let mut heartbeats = 0;
        loop {
            let response = within(stream.message()).await.unwrap().unwrap();
            if response.heartbeat.is_none() {
                break;
            }
            assert_eq!(response.machine, None);
            heartbeats += 1;
        }
        assert!(heartbeats > 0);
        assert!(within(stream.message()).await.unwrap().is_none());
    });
}

#[test]
fn a_system_interval_that_is_too_short_to_measure_is_refused() {
    run(async {
        let mut client = server_streaming(Server::start().await.address);
        for interval in [wire(0, 0), wire(0, 100_000_000), wire(-1, 0), wire(3601, 0), wire(i64::MIN, 0)] {
            let refused = client.watch_system(WatchSystemRequest { interval, count: 1 }).await.unwrap_err();
            assert_eq!(bad_fields(&refused), ["interval"], "{interval:?}");
        }
    });
}
