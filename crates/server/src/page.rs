//! The page that shows the calls of this server while they run.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use ::page::{Access, Page, serve};
use grpc_wire::{is_secret, mode_of};
use http::{HeaderMap, HeaderValue, request};
use serde_json::Value;
use stack::{Passed, Stack, Told};
use timeline::{Event, Kind, Message, Side, encoding};
use tokio::net::TcpListener;
use tonic::Status;

/// Serves the page on `listener`, alongside the calls of `stack`.
pub(crate) fn add(stack: &mut Stack, listener: TcpListener, hosts: &[String]) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    let access = Access::to(address, hosts);
    tracing::info!("page at {}", access.url(address));
    let page = Arc::new(Page::default());
    let draining = stack.draining();
    stack.alongside(serve(listener, page.clone(), access, None, async move { draining.cancelled().await }));
    let (begun, calls) = (Instant::now(), AtomicU64::new(0));
    stack.watch(Arc::new(move |head| {
        page.is_watched().then(|| told(page.clone(), begun, calls.fetch_add(1, Relaxed) + 1, head))
    }));
    Ok(())
}

fn told(page: Arc<Page>, begun: Instant, number: u64, head: &request::Parts) -> Told {
    let path = head.uri.path();
    let method = shared_proto::method(path);
    let mode = method.as_ref().map(|method| mode_of(method).name());
    let show = move |kind: Kind<'_>, more: Option<(&str, Value)>| {
        page.event(number, || {
            let mut event = Event { at: begun.elapsed(), client: "", kind }.json();
            if let Some((name, value)) = more {
                event[name] = value;
            }
            event
        });
    };
    show(
        Kind::Request { path, metadata: &masked(&head.headers), server: None },
        mode.map(|mode| ("mode", mode.into())),
    );
    let mut encodings = [encoding(&head.headers), String::new()];
    Box::new(move |passed| match passed {
        Passed::Response(head) => {
            encodings[Side::Server as usize] = encoding(&head.headers);
            show(Kind::Response { http: head.status, metadata: &masked(&head.headers) }, None);
        }
        Passed::Message { is_request, number, compressed, length, bytes } => {
            let from = if is_request { Side::Client } else { Side::Server };
            let descriptor = method.as_ref().map(|method| match from {
                Side::Client => method.input(),
                Side::Server => method.output(),
            });
            // A beginning would be taken for all of it.
            let whole = bytes.len() == length as usize;
            let descriptor = descriptor.as_ref().filter(|_| whole);
            let encoding = compressed.then_some(&*encodings[from as usize]);
            let message = Message { bytes, encoding, descriptor };
            show(Kind::Message { from, number, message }, Some(("bytes", length.into())));
        }
        Passed::HalfClose => show(Kind::HalfClose, None),
        Passed::Trailers { only, headers } => {
            let status = Status::from_header_map(headers).unwrap_or_else(|| Status::unknown("no status"));
            show(Kind::Trailers { status: &status, only, metadata: &masked(headers) }, None);
        }
        Passed::Broken(status) => show(Kind::Broken { reason: status.message() }, None),
        Passed::Cancelled => show(Kind::Cancel, None),
    })
}

fn masked(headers: &HeaderMap) -> HeaderMap {
    let mut masked = headers.clone();
    for (name, value) in &mut masked {
        if is_secret(name.as_str()) {
            *value = HeaderValue::from_static("(masked)");
        }
    }
    masked
}
