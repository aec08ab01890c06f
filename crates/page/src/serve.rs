//! The page over HTTP/1.1: some files, and the stream of events.

use std::{convert::Infallible, fmt, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, ORIGIN, REFERRER_POLICY, SET_COOKIE,
        X_CONTENT_TYPE_OPTIONS,
    },
};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{Access, Page, access::TOKEN_COOKIE};

/// People look with a browser or two.
const CONNECTIONS: usize = 32;
const TICK: Duration = Duration::from_millis(100);
/// A proxy on the way, or a browser, gives up a stream that says nothing.
const QUIET: u32 = 150;
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// What the page may ask, in bytes, and how long it may take to say it.
const LONGEST: usize = 8 << 20;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const FILES: [(&str, &str, &str); 7] = [
    ("/", HTML, include_str!("../assets/index.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("../assets/page.css")),
    ("/page.js", SCRIPT, include_str!("../assets/page.js")),
    ("/calls.js", SCRIPT, include_str!("../assets/calls.js")),
    ("/diagram.js", SCRIPT, include_str!("../assets/diagram.js")),
    ("/chart.js", SCRIPT, include_str!("../assets/chart.js")),
    ("/corner.js", SCRIPT, include_str!("../assets/corner.js")),
];

const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Does what the page asks, such as a call, and says in words what is wrong.
#[derive(Clone)]
pub struct Asked(Arc<dyn Fn(Value) -> Answering + Send + Sync>);
type Answering = Pin<Box<dyn Future<Output = Result<Value, String>> + Send>>;

impl Asked {
    /// Calls `answer` with each question, which is a JSON object.
    pub fn new<A>(answer: impl Fn(Value) -> A + Send + Sync + 'static) -> Self
    where
        A: Future<Output = Result<Value, String>> + Send + 'static,
    {
        Self(Arc::new(move |question| Box::pin(answer(question))))
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asked")
    }
}

/// What all requests have in common.
#[derive(Debug)]
struct Site {
    page: Arc<Page>,
    access: Access,
    asked: Option<Asked>,
}

/// Serves the page until `shutdown` completes. Streams of events end with it. With
/// `asked` the page can make calls, and has the windows of HTTP/2.
pub async fn serve(
    listener: TcpListener,
    page: Arc<Page>,
    access: Access,
    asked: Option<Asked>,
    shutdown: impl Future<Output = ()>,
) {
    let (site, room) = (Arc::new(Site { page, access, asked }), Arc::new(Semaphore::new(CONNECTIONS)));
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
            let site = site.clone();
            connections.spawn(async move {
                let answer = service_fn(move |request| {
                    let site = site.clone();
                    async move { Ok::<_, Infallible>(answer(&site, request).await) }
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

async fn answer(site: &Site, request: Request<Incoming>) -> Response<Body> {
    let mut response = find(site, request).await;
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

async fn find(site: &Site, request: Request<Incoming>) -> Response<Body> {
    let Site { page, access, asked: can_ask } = site;
    if let Some(why) = access.refusal(request.headers()) {
        return text(StatusCode::FORBIDDEN, why);
    }
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let asked = can_ask.as_ref().filter(|_| path == "/ask");
    match (request.method(), asked) {
        (&Method::GET, None) | (&Method::POST, Some(_)) => {}
        (_, None) => return text(StatusCode::METHOD_NOT_ALLOWED, "there is only GET"),
        (_, Some(_)) => return text(StatusCode::METHOD_NOT_ALLOWED, "there is only POST"),
    }
    if let Some(token) = query.strip_prefix("token=")
        && access.is_token(token)
    {
        return with_token(token);
    }
    if !access.admits(request.headers()) {
        return text(StatusCode::UNAUTHORIZED, "open the printed address, which contains the token");
    }
    match (path, asked) {
        (_, Some(asked)) => return ask(asked, request).await,
        ("/about", _) => return json(&json!({ "calls": can_ask.is_some() })),
        ("/events", _) => return events(page),
        // A browser asks for it, whatever the page says.
        ("/favicon.ico", _) => return text(StatusCode::NO_CONTENT, ""),
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

async fn ask(Asked(asked): &Asked, request: Request<Incoming>) -> Response<Body> {
    let headers = request.headers();
    // No other page can send either of them without asking first, which it does in vain.
    let is_json = headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if !is_json || !headers.contains_key(ORIGIN) {
        return text(StatusCode::FORBIDDEN, "only the page itself may ask");
    }
    let body = Limited::new(request.into_body(), LONGEST).collect();
    let question = match timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => serde_json::from_slice(&body.to_bytes()).map_err(|error| error.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("it did not come within {} s", BODY_TIMEOUT.as_secs())),
    };
    let question = question.map_err(|reason| format!("the question cannot be read: {reason}"));
    let answer = match question {
        Ok(question) => asked(question).await,
        Err(reason) => Err(reason),
    };
    match answer {
        Ok(answer) => json(&answer),
        Err(reason) => json(&json!({ "error": reason })),
    }
}

fn json(value: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(value.to_string())).boxed_unsync();
    response(StatusCode::OK, "application/json", body)
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
