//! Input that nobody means well with: a typed error each time, within the limits.

use net_rpc::gob::{Decoder, Error, Limits, frame};
use net_rpc::{Client, ClientLimits, Transport, serve_connection};

use crate::gob::{Kinds, Point, decode, unhex};
use crate::support::{multiply, registry};

fn define(bytes: &str) -> Result<(), Error> {
    Decoder::new(Limits::default()).message(&unhex(bytes)).map(|value| assert!(value.is_none()))
}

/// The second message is skipped, with the type of the first.
fn skip(described: &str, value: &[u8], limits: Limits) -> Result<(), Error> {
    let mut decoder = Decoder::new(limits);
    assert!(decoder.message(&unhex(described))?.is_none());
    decoder.message(value)?.unwrap().skip()
}

/// `type T []T`
const OF_ITSELF: &str = "ff81020102ff820001ff820000";

#[test]
fn a_message_over_the_limit_is_refused_by_its_length() {
    let too_long = Error::Limit { what: "bytes of a message", limit: 1 << 20 };
    assert_eq!(frame(&unhex("f8ffffffffffffffff"), 1 << 20), Err(too_long.clone()));
    assert_eq!(frame(&unhex("fd100001"), 1 << 20), Err(too_long));
    assert_eq!(frame(&unhex("fd100000"), 1 << 20), Ok(None));
    assert_eq!(frame(&unhex("f7"), 1 << 20), Err(Error::Corrupt("a number is longer than 64 bits")));
}

#[test]
fn values_inside_values_have_a_limit() {
    let nested = |depth: usize| {
        let mut value = unhex("ff8200");
        value.extend(std::iter::repeat_n(1, depth));
        value.push(0);
        skip(OF_ITSELF, &value, Limits::default())
    };
    assert_eq!(nested(64), Ok(()));
    assert_eq!(nested(65), Err(Error::Limit { what: "values inside values", limit: 64 }));
    assert_eq!(nested(1_000_000), Err(Error::Limit { what: "values inside values", limit: 64 }));
}

#[test]
fn counts_and_lengths_are_compared_with_what_is_there() {
    // A slice of 2^63 elements, a string of 2^63 bytes.
    for value in ["ff8200f88000000000000000", "0c00f88000000000000000", "0a0005", "0400", "ff82", ""] {
        assert_eq!(skip(OF_ITSELF, &unhex(value), Limits::default()), Err(Error::Truncated), "{value}");
    }
    assert_eq!(
        skip(OF_ITSELF, &unhex("ff82000000"), Limits::default()),
        Err(Error::Corrupt("a value is longer than its type"))
    );
    assert_eq!(skip(OF_ITSELF, &unhex("ff8400"), Limits::default()), Err(Error::UnknownType(66)));
}

#[test]
fn descriptors_have_limits() {
    assert_eq!(define(OF_ITSELF), Ok(()));
    // A basic id, the smallest id, no form, a form of the future, bytes behind the descriptor.
    assert_eq!(define("03020102ff820001ff820000"), Err(Error::Corrupt("duplicate type received")));
    assert_eq!(define("f8ffffffffffffffff"), Err(Error::Corrupt("field numbers out of bounds")));
    assert_eq!(define("ff8100"), Err(Error::Corrupt("a type descriptor has an unknown form")));
    assert_eq!(define("ff81080102ff82000000"), Err(Error::Corrupt("a type descriptor has an unknown form")));
    assert_eq!(define(&format!("{OF_ITSELF}00")), Err(Error::Corrupt("extra data in buffer")));
    // A name of 257 bytes, and 1,001 fields.
    let named = format!("ff81030101fe0101{}00 0000", "78".repeat(257)).replace(' ', "");
    assert_eq!(define(&named), Err(Error::Limit { what: "bytes of a name", limit: 256 }));
    let many = format!("ff81030102ff82000 1fe03e9{}0000", "0101580104 00".repeat(1_001)).replace(' ', "");
    assert_eq!(define(&many), Err(Error::Limit { what: "fields of a struct", limit: 1_000 }));

    let mut decoder = Decoder::new(Limits { types: 2, ..Limits::default() });
    let describe = |id: &str| unhex(&OF_ITSELF.replacen("ff81", id, 1));
    decoder.message(&describe("ff81")).unwrap();
    assert_eq!(decoder.message(&describe("ff81")).unwrap_err(), Error::Corrupt("duplicate type received"));
    decoder.message(&describe("ff83")).unwrap();
    decoder.message(&describe("ff85")).unwrap_or_else(|error| panic!("{error}"));
    let over = decoder.message(&describe("ff87")).unwrap_err();
    assert_eq!(over, Error::Limit { what: "types", limit: 2 });

    let mut decoder = Decoder::new(Limits { descriptors: 20, ..Limits::default() });
    decoder.message(&describe("ff81")).unwrap();
    let over = decoder.message(&describe("ff83")).unwrap_err();
    assert_eq!(over, Error::Limit { what: "bytes of type descriptors", limit: 20 });
}

/// The same numbers in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % bound
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let (at, byte) = (self.below(bytes.len()), u8::try_from(self.below(256)).unwrap());
            match self.below(4) {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                2 => bytes.insert(at, byte),
                _ => bytes.truncate(at + 1),
            }
        }
    }
}

#[tokio::test]
async fn whatever_comes_is_a_value_or_a_typed_error() {
    let registry = registry(std::sync::Arc::default());
    let limits = net_rpc::Limits::default();
    let mut random = Random(0x5eed);
    let seeds = include_str!("from_go.txt").lines().map(|line| unhex(line.split_once(' ').unwrap().1));
    let mut seeds: Vec<_> = seeds.collect();
    // What a client sends and receives.
    let server = crate::support::Server::start(net_rpc::ServerLimits::default()).await;
    for transport in crate::support::ALL {
        let passed = std::sync::Arc::new(std::sync::Mutex::new([Vec::new(), Vec::new()]));
        let keep = std::sync::Arc::clone(&passed);
        let observe = move |passed: net_rpc::Passed<'_>| {
            keep.lock().unwrap()[usize::from(passed.received)].extend_from_slice(passed.bytes);
        };
        let stream = server.stream().await;
        let client = Client::connect(stream, transport, ClientLimits::default(), observe).await.unwrap();
        multiply(&client, 6, 7).await.unwrap();
        multiply(&client, i64::MAX, 7).await.unwrap_err();
        seeds.extend(passed.lock().unwrap().clone());
    }
    let (mut values, mut calls) = (0, 0);
    for round in 0..20_000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        random.mutate(&mut bytes);
        values += usize::from(decode::<Kinds>(&bytes, Limits::default()).is_ok());
        values += usize::from(decode::<Point>(&bytes, Limits::default()).is_ok());
        let count = std::cell::Cell::new(0);
        let io = tokio::io::join(bytes.as_slice(), tokio::io::sink());
        let _ =
            serve_connection(io, &registry, &limits, |_| count.set(count.get() + 1), std::future::pending())
                .await;
        calls += count.get();
        if round % 10 == 0 {
            let transport = if round % 20 == 0 { Transport::Tcp } else { Transport::Json };
            let io = tokio::io::join(std::io::Cursor::new(bytes), tokio::io::sink());
            let client = Client::connect(io, transport, ClientLimits::default(), |_| ()).await.unwrap();
            let _ = multiply(&client, 6, 7).await;
        }
    }
    // The mutations reach what is behind the first checks.
    assert!(values > 100 && calls > 1_000, "{values} values, {calls} calls");
}
