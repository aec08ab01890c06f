//! A path with one fault: an HTTP/2 proxy between a client and a server.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream, client::SendRequest, server::SendResponse};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use shared_proto::testing::SimpleRequest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::{Semaphore, mpsc},
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    BlockingServer, Fault,
    wire::{GOAWAY, frame},
};

/// The address of the proxy for a client.
pub struct Path {
    /// As a URL.
    pub url: String,
    /// As a socket address.
    pub address: SocketAddr,
    _runtime: Runtime,
}

impl Path {
    /// A path to one server.
    pub fn to(server: &BlockingServer, fault: Fault) -> Self {
        Self::to_each(&[server], fault)
    }

    /// A path that connects to the servers in turn.
    pub fn to_each(servers: &[&BlockingServer], fault: Fault) -> Self {
        let servers: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("http://{address}");
        runtime.spawn(async move {
            for number in 0.. {
                let (client, _) = listener.accept().await.unwrap();
                let server = servers[number % servers.len()];
                if fault == Fault::DeadInstance && number % 5 == 4 {
                    continue;
                }
                tokio::spawn(async move {
                    // Either side may close the connection at any time.
                    let _ = connection(client, server, fault).await;
                });
            }
        });
        Self { address, url, _runtime: runtime }
    }
}

type Passed<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

async fn connection(client: TcpStream, server: SocketAddr, fault: Fault) -> Passed<()> {
    client.set_nodelay(true)?;
    if fault == Fault::Http1 {
        return only_http1(client).await;
    }
    let socket = TcpStream::connect(server).await?;
    socket.set_nodelay(true)?;
    let (to, upstream) = h2::client::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(16 << 20)
        .max_frame_size(256 << 10)
        .handshake(socket)
        .await?;
    let upstream = Aborting(tokio::spawn(async move { drop(upstream.await) }));
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(1 << 20)
        .initial_connection_window_size(16 << 20)
        .max_frame_size(256 << 10)
        .max_header_list_size(64 << 10)
        .max_concurrent_streams(if let Fault::FewStreams(most) = fault { most } else { 1000 });
    let mut from = builder.handshake(frames(client, fault)).await?;
    let open = Arc::new(AtomicUsize::new(0));
    let carried = if let Fault::CarryStreams(most) = fault { most } else { Semaphore::MAX_PERMITS };
    let carried = Arc::new(Semaphore::new(carried));
    let mut calls = 0;
    let old = if let Fault::GoAwayOld(time) = fault { time } else { Duration::MAX };
    let mut old = pin!(sleep(old));
    loop {
        let accepted = tokio::select! {
            accepted = from.accept() => accepted,
            () = &mut old, if !old.is_elapsed() => {
                from.graceful_shutdown();
                continue;
            }
        };
        let Some(accepted) = accepted else { break };
        let (request, respond) = accepted?;
        calls += 1;
        match fault {
            Fault::HangUpAfter(most) if calls > most => return Ok(()),
            Fault::GoAwayAfter(most) if calls == most => from.graceful_shutdown(),
            _ => {}
        }
        let (to, open, carried) = (to.clone(), open.clone(), carried.clone());
        open.fetch_add(1, SeqCst);
        tokio::spawn(async move {
            let _carried = carried.acquire().await;
            match fault {
                Fault::Http1Upstream => drop(by_http1(request, respond, server).await),
                _ => call(request, respond, to, open.load(SeqCst), fault).await,
            }
            open.fetch_sub(1, SeqCst);
        });
    }
    drop(upstream);
    Ok(())
}

/// Aborts the task when it is dropped.
struct Aborting<T>(JoinHandle<T>);

impl<T> Drop for Aborting<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn only_http1(mut client: TcpStream) -> Passed<()> {
    let mut some = [0; 256];
    let _ = client.read(&mut some).await?;
    client.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await?;
    // Reads the rest, so that the answer arrives. Unread data would reset the
    // connection.
    while client.read(&mut some).await? > 0 {}
    Ok(())
}

/// Forwards a call as a proxy without support for gRPC does.
async fn by_http1(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    server: SocketAddr,
) -> Passed<()> {
    let (head, body) = request.into_parts();
    let Part::Data(body) = Source::Direct(body).whole().await? else { return Ok(()) };
    let (mut send, connection) = http1::handshake(TokioIo::new(TcpStream::connect(server).await?)).await?;
    let _connection = Aborting(tokio::spawn(async move { drop(connection.await) }));
    let mut request = Request::post(head.uri.path()).header(header::HOST, server.to_string());
    for name in [header::CONTENT_TYPE, header::USER_AGENT] {
        request = request.header(&name, &head.headers[&name]);
    }
    let (mut head, body) = send.send_request(request.body(Full::new(body))?).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    head.version = http::Version::HTTP_2;
    head.headers.remove(header::CONNECTION);
    head.headers.remove(header::TRANSFER_ENCODING);
    let mut send = respond.send_response(Response::from_parts(head, ()), false)?;
    forward(&mut send, body).await?;
    Ok(send.send_data(Bytes::new(), true)?)
}

/// The client's connection, of which single frames can be dropped.
fn frames(client: TcpStream, fault: Fault) -> DuplexStream {
    let (near, far) = tokio::io::duplex(1 << 20);
    tokio::spawn(async move {
        let (mut from, mut to) = client.into_split();
        let (mut far_read, mut far_write) = tokio::io::split(far);
        // Ends with the connection, or with one PING too many.
        let up = async {
            let mut preface = [0; 24];
            from.read_exact(&mut preface).await?;
            far_write.write_all(&preface).await?;
            let (mut pings, mut resets) = (0, 0);
            loop {
                let mut head = [0; 9];
                from.read_exact(&mut head).await?;
                let mut body = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
                from.read_exact(&mut body).await?;
                let is_ping = head[3] == 6 && head[4] & 1 == 0;
                pings += u32::from(is_ping);
                resets += u32::from(head[3] == 3);
                match fault {
                    Fault::SwallowPings if is_ping => continue,
                    Fault::Calm if pings > 2 => return Err::<(), _>(io::Error::other("too_many_pings")),
                    Fault::CalmResets(most) if resets > most => {
                        return Err(io::Error::other("too_many_rsts"));
                    }
                    _ => {}
                }
                far_write.write_all(&head).await?;
                far_write.write_all(&body).await?;
            }
        };
        let down = async {
            tokio::io::copy(&mut far_read, &mut to).await?;
            to.shutdown().await
        };
        // Drops both, so that `to` is free.
        let either = async {
            tokio::select! {
                up = up => up.err().filter(|error| error.kind() == io::ErrorKind::Other),
                _ = down => None,
            }
        };
        if let Some(too_much) = either.await {
            // A GOAWAY with last stream 0 and ENHANCE_YOUR_CALM. The proxy closes without
            // reading the rest.
            let said = [&[0, 0, 0, 0, 0, 0, 0, 11], too_much.to_string().as_bytes()].concat();
            let _ = to.write_all(&frame(GOAWAY, 0, 0, &said)).await;
        }
    });
    near
}

/// Why a call is not forwarded to its end.
#[derive(Debug)]
enum Stop {
    Reset(Reason),
    TooLarge,
    Cancelled,
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Stop {}

impl From<h2::Error> for Stop {
    fn from(error: h2::Error) -> Self {
        Self::Reset(error.reason().unwrap_or(Reason::INTERNAL_ERROR))
    }
}

async fn call(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    to: SendRequest<Bytes>,
    open: usize,
    fault: Fault,
) {
    let (mut head, body) = request.into_parts();
    match fault {
        Fault::RefuseStreams(most) if open > most => return respond.send_reset(Reason::REFUSED_STREAM),
        Fault::Delay(time) => sleep(time).await,
        Fault::Nothing => {
            let _ = poll_fn(|cx| respond.poll_reset(cx)).await;
            return;
        }
        _ => {}
    }
    if let Some(answer) = answer(fault, &head) {
        let page = if matches!(fault, Fault::Page(_)) { PAGE } else { &[] };
        if let Ok(mut send) = respond.send_response(answer, page.is_empty()) {
            let _ = forward(&mut send, page.into()).await;
            let _ = send.send_data(Bytes::new(), true);
        }
        return;
    }
    on_request(fault, &mut head.headers);
    if fault == Fault::AlwaysPost {
        head.method = Method::POST;
    }
    let is_java = fault == Fault::ResetsOk && head.uri.path().ends_with("/UnaryCall");
    let Ok(mut to) = to.ready().await else { return };
    let Ok((response, send)) = to.send_request(Request::from_parts(head, ()), false) else { return };
    let mut body = Source::Direct(body);
    if is_java {
        let Ok(Part::Data(request)) = body.whole().await else { return };
        let request = SimpleRequest::decode(request.slice(5..)).unwrap();
        if request.response_status.as_ref().is_some_and(|status| status.code == 0) {
            return respond.send_reset(Reason::INTERNAL_ERROR);
        }
        body = Source::made(request.encode_to_vec());
    }
    let mut upload = Aborting(tokio::spawn(upload(body, send, fault)));
    let stopped = download(response, &mut respond, &mut upload, fault);
    let stopped = match fault {
        Fault::CutOld(time) => timeout(time, stopped).await.unwrap_or(Err(Stop::Reset(Reason::CANCEL))),
        _ => stopped.await,
    };
    if fault == Fault::KeepRequest {
        return std::future::pending().await;
    }
    match stopped {
        Ok(()) | Err(Stop::Cancelled) => {}
        Err(Stop::TooLarge) => drop(respond.send_response(status(StatusCode::PAYLOAD_TOO_LARGE), true)),
        Err(Stop::Reset(reason)) => respond.send_reset(reason),
    }
}

fn status(status: StatusCode) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    response
}

const PAGE: &[u8] = b"<html><body><h1>Bad Gateway</h1></body></html>";

/// The answer of the path itself, if it has one.
fn answer(fault: Fault, head: &request::Parts) -> Option<Response<()>> {
    let size: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    match fault {
        Fault::Page(number) => {
            let mut response = status(StatusCode::from_u16(number).unwrap());
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
            headers.insert(header::SERVER, HeaderValue::from_static("nginx/1.22.1"));
            if response.status().is_redirection() {
                let there = HeaderValue::from_static("https://elsewhere.example/");
                response.headers_mut().insert(header::LOCATION, there);
            }
            Some(response)
        }
        Fault::LimitHeaders(most) if size > most => Some(status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)),
        Fault::Unimplemented(prefix) if head.uri.path().starts_with(prefix) => {
            let mut response = Response::new(());
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from_static("12"));
            Some(response)
        }
        _ => None,
    }
}

fn on_request(fault: Fault, headers: &mut HeaderMap) {
    match fault {
        Fault::Remove(name) => drop(headers.remove(name)),
        Fault::Replace(name, value) => drop(headers.insert(name, HeaderValue::from_static(value))),
        _ => on_metadata(fault, headers),
    }
}

fn on_response(fault: Fault, headers: &mut HeaderMap) {
    match fault {
        Fault::RemoveFromResponse(name) => drop(headers.remove(name)),
        _ => on_metadata(fault, headers),
    }
}

fn on_metadata(fault: Fault, headers: &mut HeaderMap) {
    let names: Vec<_> = headers.keys().cloned().collect();
    for name in names {
        match fault {
            Fault::DropUnderscores if name.as_str().contains('_') => drop(headers.remove(&name)),
            Fault::DropBinary if name.as_str().ends_with("-bin") => drop(headers.remove(&name)),
            Fault::LastOfRepeated => {
                if let Some(last) = headers.get_all(&name).iter().next_back().cloned() {
                    headers.insert(name, last);
                }
            }
            _ => {}
        }
    }
}

fn on_trailers(fault: Fault, trailers: &mut HeaderMap) {
    match fault {
        Fault::DropDetails => drop(trailers.remove("grpc-status-details-bin")),
        Fault::DropTrailingMetadata => {
            let names: Vec<_> = trailers.keys().cloned().collect();
            for name in names.iter().filter(|name| !name.as_str().starts_with("grpc-")) {
                trailers.remove(name);
            }
        }
        Fault::RewriteStatus if trailers.get("grpc-status").is_some_and(|status| status != "0") => {
            trailers.insert("grpc-status", HeaderValue::from_static("2"));
        }
        Fault::RewriteMessage if trailers.contains_key("grpc-message") => {
            trailers.insert("grpc-message", HeaderValue::from_static("something went wrong"));
        }
        _ => {}
    }
}

async fn upload(body: Source, to: SendStream<Bytes>, fault: Fault) -> Result<(), Stop> {
    let mut body = body.hoarded(fault == Fault::HoardRequest);
    let passed = pass(&mut body, to, fault).await;
    match fault {
        // The end of the task would end the body.
        Fault::KeepRequest => std::future::pending().await,
        _ => passed,
    }
}

async fn pass(body: &mut Source, mut to: SendStream<Bytes>, fault: Fault) -> Result<(), Stop> {
    let (mut total, mut held) = (0, BytesMut::new());
    while let Part::Data(data) = body.next().await? {
        total += data.len();
        match fault {
            Fault::LimitBody(most) if total > most => return Err(Stop::TooLarge),
            Fault::BufferRequest | Fault::OneMessage => held.extend_from_slice(&data),
            _ => forward(&mut to, data).await?,
        }
    }
    if fault == Fault::OneMessage {
        held.resize(held.len().max(5), 0);
        let first = u32::from_be_bytes([held[1], held[2], held[3], held[4]]) as usize;
        held.truncate(5 + first);
    }
    forward(&mut to, held.freeze()).await?;
    if let Fault::DelayEnd(time) = fault {
        sleep(time).await;
    }
    Ok(to.send_data(Bytes::new(), true)?)
}

async fn download(
    response: h2::client::ResponseFuture,
    respond: &mut SendResponse<Bytes>,
    upload: &mut Aborting<Result<(), Stop>>,
    fault: Fault,
) -> Result<(), Stop> {
    let mut response = std::pin::pin!(response);
    let mut uploading = true;
    let response = loop {
        tokio::select! {
            biased;
            _ = poll_fn(|cx| respond.poll_reset(cx)) => return cancelled(fault).await,
            response = &mut response => break response?,
            sent = &mut upload.0, if uploading => match sent {
                Ok(Err(Stop::TooLarge)) => return Err(Stop::TooLarge),
                _ => uploading = false,
            },
        }
    };
    if let Fault::Delay(time) = fault {
        sleep(time).await;
    }
    let (mut head, body) = response.into_parts();
    if body.is_end_stream() {
        on_trailers(fault, &mut head.headers);
        if fault == Fault::BareStatus {
            head.headers.remove("x-check");
        }
        if matches!(fault, Fault::StatusInHead(of) if fastrand::u32(..of) == 0) {
            let mut send = respond.send_response(Response::from_parts(head, ()), false)?;
            return Ok(send.send_data(Bytes::new(), true)?);
        }
        respond.send_response(Response::from_parts(head, ()), true)?;
        return Ok(());
    }
    on_response(fault, &mut head.headers);
    let mut body = Source::Direct(body).hoarded(fault == Fault::HoardResponse);
    let mut first = None;
    if fault == Fault::HoldHead {
        first = Some(body.next().await?);
    }
    if fault == Fault::BufferResponse {
        first = Some(body.whole().await?);
    }
    let mut send = respond.send_response(Response::from_parts(head, ()), false)?;
    let mut total = 0;
    let old = if let Fault::CutOldRequest(time) = fault { time } else { Duration::MAX };
    let mut old = pin!(sleep(old));
    loop {
        let part = match first.take() {
            Some(part) => Ok(part),
            None => tokio::select! {
                part = body.next() => part,
                _ = poll_fn(|cx| send.poll_reset(cx)) => return cancelled(fault).await,
                () = idle(fault) => return Err(Stop::Reset(Reason::CANCEL)),
                () = &mut old, if uploading => return Err(Stop::Reset(Reason::CANCEL)),
                sent = &mut upload.0, if uploading => match sent {
                    Ok(Err(Stop::TooLarge)) => return Err(Stop::Reset(Reason::CANCEL)),
                    _ => {
                        uploading = false;
                        continue;
                    }
                },
            },
        };
        match part {
            Ok(Part::Data(data)) => {
                total += data.len();
                match fault {
                    Fault::CutAfter(most) if total > most => return Err(Stop::Reset(Reason::CANCEL)),
                    Fault::EndAfter(most) if total > most => return end(&mut send, None, fault),
                    Fault::PageAfter(most) if total > most => {
                        forward(&mut send, PAGE.into()).await?;
                        return end(&mut send, None, fault);
                    }
                    Fault::StatusAfter(most, status) if total > most => {
                        let mut trailers = HeaderMap::new();
                        trailers.insert("grpc-status", HeaderValue::from_static(status));
                        return Ok(send.send_trailers(trailers)?);
                    }
                    Fault::NothingAfter(most) if total > most => {
                        let _ = poll_fn(|cx| send.poll_reset(cx)).await;
                        return Err(Stop::Cancelled);
                    }
                    _ => {}
                }
                forward(&mut send, data).await?;
            }
            Ok(Part::End(trailers)) => {
                if fault == Fault::EndAfterRequest && uploading && total > 0 {
                    let _ = (&mut upload.0).await;
                }
                return end(&mut send, trailers, fault);
            }
            Err(Stop::Reset(_)) if fault == Fault::ResetIsEnd => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                return Ok(send.send_trailers(trailers)?);
            }
            Err(Stop::Reset(_)) if fault == Fault::ResetIsInternal => {
                return Err(Stop::Reset(Reason::INTERNAL_ERROR));
            }
            Err(stop) => return Err(stop),
        }
    }
}

fn end(send: &mut SendStream<Bytes>, trailers: Option<HeaderMap>, fault: Fault) -> Result<(), Stop> {
    if let Fault::EmptyData(frames) = fault {
        for _ in 0..frames {
            send.send_data(Bytes::new(), false)?;
        }
    }
    match trailers {
        Some(mut trailers) if fault != Fault::DropTrailers => {
            on_trailers(fault, &mut trailers);
            Ok(send.send_trailers(trailers)?)
        }
        _ => Ok(send.send_data(Bytes::new(), true)?),
    }
}

/// The client has cancelled. A proxy that swallows that keeps the server's stream open.
async fn cancelled(fault: Fault) -> Result<(), Stop> {
    match fault {
        Fault::SwallowCancels => std::future::pending().await,
        _ => Err(Stop::Cancelled),
    }
}

async fn idle(fault: Fault) {
    match fault {
        Fault::CutIdle(time) => sleep(time).await,
        _ => std::future::pending().await,
    }
}

enum Part {
    Data(Bytes),
    End(Option<HeaderMap>),
}

/// A body that is read as it is forwarded, or as it arrives.
enum Source {
    Direct(RecvStream),
    Hoard(mpsc::UnboundedReceiver<Result<Part, Stop>>),
}

impl Source {
    /// A body of one message and its end.
    fn made(message: Vec<u8>) -> Self {
        let (put, take) = mpsc::unbounded_channel();
        let frame = [&[0], &(message.len() as u32).to_be_bytes()[..], &message].concat();
        let _ = put.send(Ok(Part::Data(frame.into())));
        let _ = put.send(Ok(Part::End(None)));
        Self::Hoard(take)
    }

    fn hoarded(mut self, hoard: bool) -> Self {
        if !hoard {
            return self;
        }
        let (put, take) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let part = Box::pin(self.next()).await;
                let is_last = !matches!(part, Ok(Part::Data(_)));
                if put.send(part).is_err() || is_last {
                    return;
                }
            }
        });
        Self::Hoard(take)
    }

    async fn next(&mut self) -> Result<Part, Stop> {
        match self {
            Self::Direct(body) => match body.data().await {
                Some(data) => {
                    let data = data?;
                    body.flow_control().release_capacity(data.len())?;
                    Ok(Part::Data(data))
                }
                None => Ok(Part::End(body.trailers().await?)),
            },
            Self::Hoard(take) => take.recv().await.unwrap_or(Err(Stop::Reset(Reason::INTERNAL_ERROR))),
        }
    }

    /// Reads all data; the end is left to be read.
    async fn whole(&mut self) -> Result<Part, Stop> {
        let mut whole = BytesMut::new();
        loop {
            match self.next().await? {
                Part::Data(data) => whole.extend_from_slice(&data),
                Part::End(trailers) => {
                    let (put, take) = mpsc::unbounded_channel();
                    let _ = put.send(Ok(Part::End(trailers)));
                    *self = Self::Hoard(take);
                    return Ok(Part::Data(whole.freeze()));
                }
            }
        }
    }
}

async fn forward(to: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), Stop> {
    while !data.is_empty() {
        to.reserve_capacity(data.len());
        match poll_fn(|cx| to.poll_capacity(cx)).await {
            Some(capacity) => {
                let capacity = capacity?.min(data.len());
                to.send_data(data.split_to(capacity), false)?;
            }
            None => return Err(Stop::Cancelled),
        }
    }
    Ok(())
}
