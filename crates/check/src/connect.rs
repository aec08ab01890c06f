//! Whether there is a way to the server at all.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::HeaderMap;
use shared_proto::fourmodes::v1 as pb;
use tokio::time::timeout;
use tonic::Code;
use transport::{CallError, Handshake, is_tls, resolve};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{
    Group,
    check::Check,
    modes::milliseconds,
    outcome::{Checked, Outcome},
    path::{Dialect, Known, Path, SOON, UNARY, seen},
    remedies, script,
    wire::{Wire, within},
    wire_error::WireError,
};

/// In this order: each needs the one before.
pub(crate) const CHECKS: [Check; 7] = [
    Check::new(Group::Connect, "resolve", |path| Box::pin(name(path))).anywhere(),
    Check::new(Group::Connect, "tcp", |path| Box::pin(tcp(path))).anywhere(),
    Check::new(Group::Connect, "tls", |path| Box::pin(tls(path))).anywhere(),
    Check::new(Group::Connect, "certificate", |path| Box::pin(certificate(path))).anywhere(),
    Check::new(Group::Connect, "http2", |path| Box::pin(http2(path))).anywhere(),
    Check::new(Group::Connect, "call", |path| Box::pin(call(path))).anywhere(),
    Check::new(Group::Connect, "round-trip", |path| Box::pin(round_trip(path))),
];

const PLAIN: &str = "the URL begins with http://, which is without TLS";

async fn name(path: &Path) -> Checked {
    let found = match timeout(SOON, resolve(&path.server)).await {
        Ok(Ok(found)) if !found.is_empty() => found,
        Ok(Ok(_)) => return Ok(Outcome::fail(path.host(), "the name has no address", remedies::NAME)),
        Ok(Err(error)) => {
            return Ok(Outcome::fail(
                error.to_string(),
                "the name of the host cannot be resolved",
                remedies::NAME,
            ));
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
    Ok(Outcome::pass(format!("{peer} in {}", milliseconds(begun.elapsed()))))
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
                "have it made anew",
            ));
        }
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let days = (certificate.validity().not_after.timestamp() - now as i64) / DAY;
    let figure = format!("{days} days left, {}", certificate.subject());
    if days < SOON {
        let remedy =
            "renew it, and have it renewed by itself (`certbot`, cert-manager, AWS ACM; Caddy does it)";
        return Ok(Outcome::warn(figure, "the certificate ends soon", remedy));
    }
    Ok(Outcome::pass(figure))
}

/// A handshake that would be content with HTTP/1.1.
async fn shake(path: &Path) -> Result<Handshake, Outcome> {
    let socket = path.dial().await?;
    let Some(tls) = path.tls()? else { return Err(Outcome::skip(PLAIN)) };
    let shaken = timeout(SOON, tls.offering(&[b"h2", b"http/1.1"]).shake(socket)).await;
    let shaken = shaken.map_err(|_| Outcome::from(WireError::Silent(SOON)))?;
    shaken.map_err(|error| CallError::from(error).into())
}

async fn http2(path: &Path) -> Checked {
    let fails =
        |figure: String| Outcome::fail(figure, "what answers does not speak HTTP/2 here", remedies::LISTEN);
    let how = match is_tls(&path.server) {
        true => match shake(path).await?.protocol.as_deref() {
            Some(b"h2") => "ALPN h2",
            Some(other) => return Ok(fails(format!("ALPN {}", String::from_utf8_lossy(other)))),
            None => return Ok(fails("no ALPN".to_owned())),
        },
        false => "prior knowledge",
    };
    let wire = match path.open().await {
        Ok(wire) => wire,
        // That has a reason of its own, such as a client without a certificate.
        Err(lost @ WireError::Unconnected(..)) => return Err(lost.into()),
        Err(lost) => return Ok(fails(lost.to_string())),
    };
    // What answers otherwise shows it now; that PINGs are answered is another
    // matter.
    match within(Duration::from_secs(1), wire.ping()).await {
        Ok(_) | Err(WireError::Silent(_)) => Ok(Outcome::pass(how)),
        Err(lost) => Ok(fails(lost.to_string())),
    }
}

/// The first call, which tells what the others may count on.
async fn call(path: &Path) -> Checked {
    let other = "start a Four Modes server at the other end of the path (`fourmodes-server all`), to look at all of it";
    if path.standard {
        let answer = within(SOON, path.empty_call()).await;
        return match answer {
            Ok(_) => {
                Ok(know(path, Dialect::Standard, None, Outcome::pass("grpc.testing.TestService answers")))
            }
            Err(lost) if is_unimplemented(&lost) => Ok(Outcome::fail(
                lost.to_string(),
                "the server has no grpc.testing.TestService",
                "leave --standard out, or name an interop server, with its `TestService`",
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
                    "something on the path does not speak HTTP/2 to the server",
                    remedies::HTTP2,
                ),
            };
            Ok(know(path, Dialect::Probe, seen.limits, outcome))
        }
        Err(lost) if is_unimplemented(&lost) => {
            let (dialect, figure) = match within(SOON, path.empty_call()).await {
                Ok(_) => (Dialect::Standard, "grpc.testing.TestService is asked in its place"),
                Err(_) => (Dialect::Other, "what needs it is left out"),
            };
            let cause = "the server has no fourmodes.v1.ProbeService";
            Ok(know(path, dialect, None, Outcome::warn(figure, cause, other)))
        }
        Err(lost) => lost_call(path, Dialect::Probe, lost),
    }
}

/// Where it is hopeless nothing becomes known.
fn lost_call(path: &Path, dialect: Dialect, lost: WireError) -> Checked {
    let is_refused = lost.status().is_some_and(|status| {
        matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied | Code::Unavailable)
    });
    if is_refused
        || lost.needs_http2()
        || matches!(lost, WireError::Silent(_) | WireError::Http(_) | WireError::Unconnected(..))
    {
        return Err(lost.into());
    }
    Ok(know(path, dialect, None, lost.into()))
}

fn know(path: &Path, dialect: Dialect, limits: Option<pb::ServerLimits>, outcome: Outcome) -> Outcome {
    // It is asked once in a run.
    let _ = path.known.set(Known { dialect, limits });
    outcome
}

fn is_unimplemented(lost: &WireError) -> bool {
    lost.status().is_some_and(|status| status.code() == Code::Unimplemented)
}

async fn round_trip(path: &Path) -> Checked {
    let wire = path.open().await?;
    let request = pb::UnaryRequest { script: Some(script::steps([])), payload: Bytes::new() };
    let call =
        || async { wire.unary::<pb::UnaryResponse>(UNARY, HeaderMap::new(), &request).await.map(drop) };
    median(&wire, call).await
}

/// Of several calls on one connection, after one that does not count.
pub(crate) async fn median(wire: &Wire, call: impl AsyncFn() -> Result<(), WireError>) -> Checked {
    const CALLS: usize = 9;
    /// On a path so slow that it takes longer, fewer will do.
    const ENOUGH: Duration = Duration::from_secs(3);
    const SLOW: Duration = Duration::from_millis(500);
    call().await?;
    let mut times = Vec::new();
    while times.len() < CALLS && times.iter().sum::<Duration>() < ENOUGH {
        let begun = Instant::now();
        call().await?;
        times.push(begun.elapsed());
    }
    times.sort();
    let time = times[times.len() / 2];
    let hop = match within(Duration::from_secs(1), wire.ping()).await {
        Ok(hop) => format!(", {} to the next hop", milliseconds(hop)),
        Err(_) => String::new(),
    };
    let figure = format!("{} to the server and back{hop}", milliseconds(time));
    match time > SLOW {
        true => Ok(Outcome::warn(figure, "the path is slow", remedies::SLOW)),
        false => Ok(Outcome::pass(figure)),
    }
}
