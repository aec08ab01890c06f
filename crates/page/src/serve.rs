//! The page over HTTP/1.1: some files, and the stream of events.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY, SET_COOKIE,
        X_CONTENT_TYPE_OPTIONS,
    },
};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet, time::sleep};

use crate::{Access, Page, access::TOKEN_COOKIE};

/// People look with a browser or two.
const CONNECTIONS: usize = 32;
const TICK: Duration = Duration::from_millis(100);
/// A proxy on the way, or a browser, gives up a stream that says nothing.
const QUIET: u32 = 150;
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const FILES: [(&str, &str, &str); 6] = [
    ("/", HTML, include_str!("../assets/index.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("../assets/page.css")),
    ("/page.js", SCRIPT, include_str!("../assets/page.js")),
    ("/calls.js", SCRIPT, include_str!("../assets/calls.js")),
    ("/diagram.js", SCRIPT, include_str!("../assets/diagram.js")),
    ("/chart.js", SCRIPT, include_str!("../assets/chart.js")),
];

const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Serves the page until `shutdown` completes. Streams of events end with it.
pub async fn serve(
    listener: TcpListener,
    page: Arc<Page>,
    access: Access,
    shutdown: impl Future<Output = ()>,
) {
    let (access, room) = (Arc::new(access), Arc::new(Semaphore::new(CONNECTIONS)));
    let mut connections = JoinSet::new();
    let accept = async {
        loop {
            while connections.try_join_next().is_some() {}
            // It is never closed.
            let Ok(place) = room.clone().acquire_owned().await else { return };
            let socket = match listener.accept().await {
                Ok((socket, _)) => socket,
                Err(error) => {
                    tracing::warn!(%error, "a connection for the page is not accepted");
                    sleep(TICK).await;
                    continue;
                }
            };
            let (page, access) = (page.clone(), access.clone());
            connections.spawn(async move {
                let answer = service_fn(move |request| {
                    let answer = answer(&page, &access, &request);
                    async { Ok::<_, Infallible>(answer) }
                });
                let mut http = http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
                // A viewer that goes away is no error of the page.
                let _ = http.serve_connection(TokioIo::new(socket), answer).await;
                drop(place);
            });
        }
    };
    tokio::select! {
        () = accept => {}
        () = shutdown => {}
    }
}

fn answer(page: &Arc<Page>, access: &Access, request: &Request<Incoming>) -> Response<Body> {
    let mut response = find(page, access, request);
    let headers = response.headers_mut();
    let always = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in always {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn find(page: &Arc<Page>, access: &Access, request: &Request<Incoming>) -> Response<Body> {
    if let Some(why) = access.refusal(request.headers()) {
        return text(StatusCode::FORBIDDEN, why);
    }
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "there is only GET");
    }
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    if let Some(token) = query.strip_prefix("token=")
        && access.is_token(token)
    {
        return with_token(token);
    }
    if !access.admits(request.headers()) {
        return text(StatusCode::UNAUTHORIZED, "open the printed address, which contains the token");
    }
    match path {
        "/events" => return events(page),
        // A browser asks for it, whatever the page says.
        "/favicon.ico" => return text(StatusCode::NO_CONTENT, ""),
        _ => {}
    }
    let file = FILES.iter().find(|(at, ..)| *at == path);
    file.map_or_else(
        || text(StatusCode::NOT_FOUND, "there is nothing here"),
        |(_, kind, content)| {
            response(StatusCode::OK, kind, Full::new(Bytes::from_static(content.as_bytes())).boxed_unsync())
        },
    )
}

/// Keeps the token in a cookie, so that it does not stay in the address.
fn with_token(token: &str) -> Response<Body> {
    let mut response = text(StatusCode::SEE_OTHER, "");
    let cookie = format!("{TOKEN_COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/");
    // The token has letters and digits.
    if let Ok(cookie) = cookie.parse() {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("/"));
    response
}

fn events(page: &Arc<Page>) -> Response<Body> {
    let mut viewer = page.look();
    let stream = async_stream::stream! {
        let mut quiet = 0;
        yield frame(": the events of all calls\n\n".to_owned());
        loop {
            sleep(TICK).await;
            quiet += 1;
            if let Some(news) = viewer.news() {
                quiet = 0;
                yield frame(format!("data: {news}\n\n"));
            } else if quiet >= QUIET {
                quiet = 0;
                yield frame(":\n\n".to_owned());
            }
        }
    };
    response(StatusCode::OK, "text/event-stream", StreamBody::new(stream).boxed_unsync())
}

fn frame(text: String) -> Result<Frame<Bytes>, Infallible> {
    Ok(Frame::data(text.into()))
}

fn text(status: StatusCode, text: &str) -> Response<Body> {
    response(status, "text/plain; charset=utf-8", Full::new(Bytes::from(format!("{text}\n"))).boxed_unsync())
}

fn response(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
