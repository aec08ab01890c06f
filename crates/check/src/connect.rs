//! Whether the server can be reached at all.

use std::{
    net::SocketAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderMap, Request};
use shared_proto::fourmodes::v1 as pb;
use tokio::{net::TcpStream, sync::oneshot, task::JoinSet, time::timeout};
use tonic::Code;
use transport::{CallError, Connect, ConnectError, Handshake, Stream, TlsError, is_tls, resolve};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{
    Group,
    check::Check,
    extras::by_http1,
    flow::zeros,
    modes::milliseconds,
    outcome::{Checked, Outcome, Size, Verdict},
    path::{Dialect, Known, Pace, Path, SOON, UNARY, seen},
    remedies, script,
    wire::{Wire, within},
    wire_error::WireError,
};

/// In this order: each check needs the one before it.
pub(crate) const CHECKS: [Check; 7] = [
    Check::new(Group::Connect, "resolve", |path| Box::pin(name(path))).anywhere(),
    Check::new(Group::Connect, "tcp", |path| Box::pin(tcp(path))).anywhere(),
    Check::new(Group::Connect, "tls", |path| Box::pin(tls(path))).anywhere(),
    Check::new(Group::Connect, "certificate", |path| Box::pin(certificate(path))).anywhere(),
    Check::new(Group::Connect, "http2", |path| Box::pin(http2(path))).anywhere(),
    Check::new(Group::Connect, "call", |path| Box::pin(call(path))).anywhere(),
    Check::new(Group::Connect, "round-trip", |path| Box::pin(round_trip(path))),
];

const PLAIN: &str = "the URL begins with http://: no TLS";

async fn name(path: &Path) -> Checked {
    let found = match timeout(SOON, resolve(&path.server)).await {
        Ok(Ok(found)) if !found.is_empty() => found,
        Ok(Ok(_)) => return Ok(Outcome::fail(path.host(), "the name has no address", remedies::NAME)),
        Ok(Err(error)) => {
            return Ok(Outcome::fail(error.to_string(), "the host name cannot be resolved", remedies::NAME));
        }
        Err(_) => return Ok(Outcome::fail(path.host(), "the resolver does not answer", remedies::NAME)),
    };
    let addresses: Vec<_> = found.iter().map(|address| address.ip().to_string()).collect();
    Ok(Outcome::pass(addresses.join(", ")))
}

async fn tcp(path: &Path) -> Checked {
    let begun = Instant::now();
    let socket = path.dial().await?;
    let peer = socket.peer_addr().map(|peer| peer.to_string()).unwrap_or_default();
    let figure = format!("{peer} in {}", milliseconds(begun.elapsed()));
    let dead = dead(resolve(&path.server).await.unwrap_or_default()).await;
    if dead.is_empty() {
        return Ok(Outcome::pass(figure));
    }
    let cause = "one address of the name is dead: clients that try it fail or wait";
    let remedy = "remove the address from the DNS, or let something listen there";
    Ok(Outcome::warn(format!("{figure}; {}", dead.join(", ")), cause, remedy))
}

/// The addresses that accept no connection, each with its error.
async fn dead(addresses: Vec<SocketAddr>) -> Vec<String> {
    const TIME: Duration = Duration::from_secs(3);
    let mut attempts = JoinSet::new();
    for address in addresses {
        attempts.spawn(async move {
            match timeout(TIME, TcpStream::connect(address)).await {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(format!("{address}: {error}")),
                Err(_) => Some(format!("{address}: no answer in {} s", TIME.as_secs())),
            }
        });
    }
    attempts.join_all().await.into_iter().flatten().collect()
}

async fn tls(path: &Path) -> Checked {
    if !is_tls(&path.server) {
        return Ok(Outcome::skip(PLAIN));
    }
    let shaken = shake(path).await?;
    Ok(Outcome::pass(format!("{}, {}", shaken.version, shaken.cipher_suite)))
}

async fn certificate(path: &Path) -> Checked {
    const SOON: i64 = 14;
    const DAY: i64 = 24 * 3600;
    if !is_tls(&path.server) {
        return Ok(Outcome::skip(PLAIN));
    }
    let certificate = shake(path).await?.certificate;
    let (_, certificate) = match X509Certificate::from_der(&certificate) {
        Ok(read) => read,
        Err(error) => {
            return Ok(Outcome::warn(
                error.to_string(),
                "the certificate cannot be read",
                "issue a new certificate",
            ));
        }
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let days = (certificate.validity().not_after.timestamp() - now as i64) / DAY;
    let figure = format!("{days} days left, {}", certificate.subject());
    if days < SOON {
        let remedy =
            "renew it, and automate the renewal (`certbot`, cert-manager, AWS ACM; Caddy does it itself)";
        return Ok(Outcome::warn(figure, "the certificate expires soon", remedy));
    }
    Ok(Outcome::pass(figure))
}

/// A handshake that offers HTTP/2 and HTTP/1.1.
async fn shake(path: &Path) -> Result<Handshake, Outcome> {
    let socket = path.dial().await?;
    let Some(tls) = path.tls()? else { return Err(Outcome::skip(PLAIN)) };
    let shaken = timeout(SOON, tls.offering(&[b"h2", b"http/1.1"]).shake(socket)).await;
    match shaken.map_err(|_| WireError::Mute(SOON))? {
        Ok(shaken) => Ok(shaken),
        Err(ConnectError { reason: Connect::Tls(TlsError::Closed), .. }) => Err(WireError::Closed.into()),
        Err(error) => Err(CallError::from(error).into()),
    }
}

/// A peer that does not speak HTTP/2 is asked by HTTP/1.1, because the answer may name
/// the product.
async fn http2(path: &Path) -> Checked {
    /// A silent peer does not answer HTTP/1.1 either, so the wait is short.
    const A_MOMENT: Duration = Duration::from_secs(1);
    let checked = speaks_http2(path).await;
    if matches!(&checked, Ok(outcome) if outcome.verdict == Verdict::Fail) {
        let _ = timeout(A_MOMENT, by_http1(path, Request::get("/"), Bytes::new())).await;
    }
    checked
}

async fn speaks_http2(path: &Path) -> Checked {
    let fails = |figure: String| {
        Outcome::fail(figure, "the endpoint does not speak HTTP/2 on this port", remedies::LISTEN)
    };
    let how = match is_tls(&path.server) {
        true => {
            let shaken = shake(path).await?;
            match shaken.protocol.as_deref() {
                Some(b"h2") => "ALPN h2",
                Some(other) => return Ok(fails(format!("ALPN {}", String::from_utf8_lossy(other)))),
                None => return Ok(without_alpn(path, shaken).await),
            }
        }
        false => "prior knowledge",
    };
    let wire = match path.open().await {
        Ok(wire) => wire,
        // These errors have causes of their own, such as a missing client certificate.
        Err(lost @ (WireError::Unconnected(..) | WireError::Closed | WireError::Mute(_))) => {
            return Err(lost.into());
        }
        Err(lost) => return Ok(fails(lost.to_string())),
    };
    // A peer that does not speak HTTP/2 shows it now. Whether it answers PINGs is not
    // the subject of this check.
    match within(Duration::from_secs(1), wire.ping()).await {
        Ok(_) | Err(WireError::Silent(_)) => Ok(Outcome::pass(how)),
        Err(lost) => Ok(fails(lost.to_string())),
    }
}

/// Some clients continue without ALPN if the server speaks HTTP/2 anyway.
async fn without_alpn(path: &Path, shaken: Handshake) -> Outcome {
    let (hear, heard) = oneshot::channel();
    let seen = path.evidence.connection(None, &path.products);
    let stream = Stream::shaken(shaken.stream, hear);
    let spoken = Wire::over(stream, heard, &path.server, &path.connector.metadata, seen).await;
    match spoken {
        Ok(wire) if within(SOON, wire.ping()).await.is_ok() => Outcome::fail(
            "no ALPN, but HTTP/2 works",
            "TLS does not negotiate HTTP/2: clients of the C core (Python, C++, Ruby), Java, Rust (tonic, and so \
             this one) and Go from 1.67 of grpc-go on refuse it; grpcurl and others on an older grpc-go do not",
            remedies::ALPN,
        ),
        _ => Outcome::fail("no ALPN", "the endpoint does not speak HTTP/2 on this port", remedies::LISTEN),
    }
}

/// The first call. It finds out which service the other checks can use.
async fn call(path: &Path) -> Checked {
    let other =
        "for all checks, start a Four Modes server at the other end of the path (`fourmodes-server all`)";
    if path.standard {
        let answer = within(SOON, path.empty_call()).await;
        return match answer {
            Ok(_) => {
                Ok(know(path, Dialect::Standard, None, Outcome::pass("grpc.testing.TestService answers")))
            }
            Err(lost) if is_unimplemented(&lost) => Ok(Outcome::fail(
                lost.to_string(),
                "the server has no grpc.testing.TestService",
                "omit --standard, or name an interop server with `TestService`",
            )),
            Err(lost) => lost_call(path, Dialect::Standard, lost),
        };
    }
    match within(SOON, path.unary(pb::Script::default())).await {
        Ok(answer) => {
            let seen = seen(answer.message.observation)?;
            let figure = format!("{} at the server, from {}", seen.http_version, seen.peer);
            let outcome = match seen.http_version.as_str() {
                "HTTP/2.0" => Outcome::pass(figure),
                _ => Outcome::fail(
                    figure,
                    "a hop on the path does not speak HTTP/2 to the server",
                    remedies::HTTP2,
                ),
            };
            Ok(know(path, Dialect::Probe, seen.limits, outcome))
        }
        Err(lost) if is_unimplemented(&lost) => {
            let (dialect, figure) = match within(SOON, path.empty_call()).await {
                Ok(_) => (Dialect::Standard, "the checks use grpc.testing.TestService"),
                Err(_) => (Dialect::Other, "checks that need it, or grpc.testing.TestService, are skipped"),
            };
            let cause = "the server has no fourmodes.v1.ProbeService";
            Ok(know(path, dialect, None, Outcome::warn(figure, cause, other)))
        }
        Err(lost) => lost_call(path, Dialect::Probe, lost),
    }
}

/// Nothing becomes known when the error leaves nothing to check.
fn lost_call(path: &Path, dialect: Dialect, lost: WireError) -> Checked {
    let is_refused = lost.status().is_some_and(|status| {
        matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied | Code::Unavailable)
    });
    if is_refused
        || lost.needs_http2()
        || matches!(lost, WireError::Silent(_) | WireError::Http(_) | WireError::Unconnected(..))
        || matches!(lost, WireError::Closed | WireError::Mute(_))
    {
        return Err(lost.into());
    }
    Ok(know(path, dialect, None, lost.into()))
}

fn know(path: &Path, dialect: Dialect, limits: Option<pb::ServerLimits>, outcome: Outcome) -> Outcome {
    // This check runs once, so the value is not set yet.
    let _ = path.known.set(Known { dialect, limits });
    outcome
}

fn is_unimplemented(lost: &WireError) -> bool {
    lost.status().is_some_and(|status| status.code() == Code::Unimplemented)
}

async fn round_trip(path: &Path) -> Checked {
    let wire = path.open().await?;
    let ask = async |size: u32| {
        let script = Some(script::steps([script::payload(size)]));
        let request = pb::UnaryRequest { script, payload: zeros(size) };
        wire.unary::<pb::UnaryResponse>(UNARY, HeaderMap::new(), &request).await.map(drop)
    };
    measured(path, &wire, Some(PROBED.min(path.unary_limit() / 2)), ask).await
}

/// How many bytes go in each direction to measure the bandwidth of the path.
pub(crate) const PROBED: u32 = 32 << 10;

/// Measures the median of several calls on one connection, after a warm-up call. If
/// `bytes` is set, it also measures the bandwidth, by calls with that many bytes in
/// each direction.
pub(crate) async fn measured(
    path: &Path,
    wire: &Wire,
    bytes: Option<u32>,
    ask: impl AsyncFn(u32) -> Result<(), WireError>,
) -> Checked {
    const CALLS: usize = 9;
    const LEAST: usize = 3;
    /// Once the calls have taken this long, `LEAST` of them are enough.
    const ENOUGH: Duration = Duration::from_secs(1);
    const SLOW: Duration = Duration::from_millis(500);
    ask(0).await?;
    let mut times = Vec::new();
    while times.len() < LEAST || times.len() < CALLS && times.iter().sum::<Duration>() < ENOUGH {
        let begun = Instant::now();
        ask(0).await?;
        times.push(begun.elapsed());
    }
    times.sort();
    let round_trip = times[times.len() / 2];
    path.learn(Pace { round_trip, rate: None });
    let mut rate = None;
    if let Some(bytes) = bytes {
        // The first calls grow the congestion window of TCP.
        let mut best = Duration::MAX;
        for _ in 0..3 {
            let begun = Instant::now();
            // Other checks report a server or a path that refuses this size.
            if ask(bytes).await.is_err() {
                break;
            }
            best = best.min(begun.elapsed().saturating_sub(round_trip));
        }
        rate = Some(2.0 * f64::from(bytes) / best.as_secs_f64().max(1e-6));
        path.learn(Pace { round_trip, rate });
    }
    let hop = match within(Duration::from_secs(1), wire.ping()).await {
        Ok(hop) => format!(", {} to the next hop", milliseconds(hop)),
        Err(_) => String::new(),
    };
    let carried = match rate.filter(|_| path.pace().is_narrow()) {
        Some(rate) => format!(", {}/s", Size(rate as u64)),
        None => String::new(),
    };
    let figure = format!("{} to the server and back{hop}{carried}", milliseconds(round_trip));
    // The fastest call counts: a busy machine is not a slow path.
    match times[0] > SLOW {
        true => Ok(Outcome::warn(figure, "the path is slow", remedies::SLOW)),
        false => Ok(Outcome::pass(figure)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn an_address_that_is_dead_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let unused = TcpSocket::new_v4().unwrap();
        unused.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let refuses = unused.local_addr().unwrap();
        let dead = dead(vec![listener.local_addr().unwrap(), refuses]).await;
        assert_eq!(dead.len(), 1);
        assert!(dead[0].starts_with(&refuses.to_string()), "{dead:?}");
    }
}
