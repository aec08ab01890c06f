//! One connection of a server.

use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use crate::codec::{CodecError, Head, Incoming, Message, Outgoing, Transport};
use crate::gob::Type;
use crate::registry::Registry;
use crate::{gob, http};

/// What a server gives one connection.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Of the messages. Default: [`gob::Limits::default`].
    pub gob: gob::Limits,
    /// Calls that are open at a time. At the limit the server stops reading. Default: 1,000.
    pub calls: usize,
    /// Bytes of the requests of open calls. At the limit the server stops reading. Default: 4 MiB. One
    /// request may exceed it.
    pub requests: usize,
    /// Bytes of answers that the client has not taken. At the limit the server stops reading and
    /// encodes no further answer. Default: 1 MiB. One answer may exceed it.
    pub unsent: usize,
    /// Ends a connection on which for so long nothing came, and no call was open or nothing that the
    /// client should read went out. Default: 10 minutes.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            gob: gob::Limits::default(),
            calls: 1_000,
            requests: 4 << 20,
            unsent: 1 << 20,
            idle: Duration::from_secs(600),
        }
    }
}

/// A call that has been answered.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// How the connection speaks.
    pub transport: Transport,
    /// The name that the client sent, known or not: escape it before a terminal gets it.
    pub method: &'a str,
    /// Whether the registry has the method.
    pub known: bool,
    /// The number of the call. JSON: the how-manieth request on the connection it was.
    pub seq: u64,
    /// Bytes of the request, with the types described on its way.
    pub bytes_in: usize,
    /// Bytes of the response, with the types described on its way.
    pub bytes_out: usize,
    /// What the client gets as an error.
    pub error: Option<&'a str>,
    /// From the whole request to the encoded response.
    pub elapsed: Duration,
}

/// Why a connection ended, of a server or a client, other than by the client's end or the shutdown.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The stream broke.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The other end sent what is no message.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The client sent an HTTP request that is not `CONNECT /_goRPC_`.
    #[error("the HTTP request {0:?} is not CONNECT {path}", path = http::PATH)]
    Http(String),
    /// The stream ended inside a message.
    #[error("unexpected EOF")]
    UnexpectedEof,
    /// See [`Limits::idle`].
    #[error("no traffic for {0:?}")]
    Idle(Duration),
}

/// Serves one connection until the client ends it, it fails, or `shutdown` completes. Then the calls
/// that are open are answered, but no more is read. `observe` is called after each call.
///
/// Dropping the future drops the open calls and the connection.
///
/// # Errors
/// See [`ConnectionError`]. The calls that came before were answered, unless the stream broke.
pub async fn serve_connection(
    io: impl AsyncRead + AsyncWrite,
    registry: &Registry,
    limits: &Limits,
    observe: impl Fn(Call<'_>),
    shutdown: impl Future<Output = ()>,
) -> Result<(), ConnectionError> {
    let (reader, writer) = tokio::io::split(io);
    let (mut reader, mut writer, mut shutdown) = (pin!(reader), pin!(writer), pin!(shutdown));
    let mut input = BytesMut::new();
    let opened = tokio::select! {
        opened = timeout(limits.idle, open(reader.as_mut(), &mut input)) => {
            opened.map_err(|_| ConnectionError::Idle(limits.idle))??
        }
        () = shutdown.as_mut() => return Ok(()),
    };
    let (transport, greeting) = match opened {
        Opened::Ended => return Ok(()),
        Opened::As(transport) => (transport, String::new()),
        Opened::Http(line) => match http::answer(&line) {
            (greeting, true) => (Transport::Http, greeting),
            (refusal, false) => {
                close(writer, reader, refusal.as_bytes()).await;
                return Err(ConnectionError::Http(line));
            }
        },
    };
    let mut calls = Calls {
        transport,
        registry,
        incoming: Incoming::new(transport, &limits.gob, true),
        outgoing: Outgoing::new(transport, true),
        running: JoinSet::new(),
        open: HashMap::new(),
        requests: 0,
        out: BytesMut::from(greeting.as_bytes()),
        observe,
    };
    let (mut ending, mut ended, mut unflushed) = (false, Ok(()), false);
    let idle = sleep_until(Instant::now() + limits.idle);
    let (mut idle, mut last) = (pin!(idle), Instant::now());
    loop {
        // After an error there is no further message to look for.
        let hungry = ended.is_err()
            || calls.take(&mut input, limits).unwrap_or_else(|error| {
                (ending, ended) = (true, Err(error.into()));
                true
            });
        if ending && hungry && calls.open.is_empty() && calls.out.is_empty() && !unflushed {
            break;
        }
        let at_rest = calls.open.is_empty() || !calls.out.is_empty();
        tokio::select! {
            read = reader.read_buf(&mut input), if hungry && !ending => {
                ending = read? == 0;
                if ending && !calls.incoming.is_between(&input) && ended.is_ok() {
                    ended = Err(ConnectionError::UnexpectedEof);
                }
            }
            written = push(writer.as_mut(), &mut calls.out, &mut unflushed), if unflushed || !calls.out.is_empty() => {
                written?;
            }
            Some(done) = calls.running.join_next_with_id(), if calls.out.len() < limits.unsent => {
                calls.answer(done)?;
                while calls.out.len() < limits.unsent && let Some(done) = calls.running.try_join_next_with_id() {
                    calls.answer(done)?;
                }
            }
            () = shutdown.as_mut(), if !ending => ending = true,
            () = idle.as_mut(), if at_rest => {
                if last + limits.idle <= Instant::now() {
                    return Err(ConnectionError::Idle(limits.idle));
                }
                idle.as_mut().reset(last + limits.idle);
                continue;
            }
        }
        last = Instant::now();
    }
    close(writer, reader, &[]).await;
    ended
}

/// Writes some of `out`, or flushes. Nothing is lost when it is dropped.
pub(crate) async fn push(
    mut writer: impl AsyncWrite + Unpin,
    out: &mut BytesMut,
    unflushed: &mut bool,
) -> std::io::Result<()> {
    if out.is_empty() {
        writer.flush().await?;
        *unflushed = false;
    } else {
        *unflushed = true;
        if writer.write_buf(out).await? == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

/// Ends the stream after `last`, and reads what the client still sends: a socket that is closed with unread bytes
/// takes the last answers back.
async fn close(mut writer: impl AsyncWrite + Unpin, mut reader: impl AsyncRead + Unpin, last: &[u8]) {
    let drained = async {
        writer.write_all(last).await?;
        writer.shutdown().await?;
        tokio::io::copy(&mut reader, &mut tokio::io::sink()).await
    };
    // Whatever comes of it, the connection is over.
    let _ = timeout(Duration::from_secs(1), drained).await;
}

enum Opened {
    Ended,
    As(Transport),
    /// The first line of the request.
    Http(String),
}

/// Finds out how the client speaks. gob begins with the length of a message and a negative type id, and
/// those of a client's types take two bytes: so the second or the first byte of the stream is above 0x7f.
async fn open(mut reader: impl AsyncRead + Unpin, input: &mut BytesMut) -> Result<Opened, ConnectionError> {
    while input.len() < 2 {
        if reader.read_buf(input).await? == 0 {
            return if input.is_empty() { Ok(Opened::Ended) } else { Err(ConnectionError::UnexpectedEof) };
        }
    }
    match (input[0], input[1]) {
        (0x80.., _) | (_, 0x80..) => Ok(Opened::As(Transport::Tcp)),
        (b'{' | b' ' | b'\t' | b'\r' | b'\n', _) => Ok(Opened::As(Transport::Json)),
        (b'A'..=b'Z', _) => loop {
            if let Some(line) = http::first_line(input) {
                return Ok(Opened::Http(line));
            }
            if input.len() > http::MAX_HEAD || reader.read_buf(input).await? == 0 {
                return Err(ConnectionError::Http(String::new()));
            }
        },
        _ => Ok(Opened::As(Transport::Tcp)),
    }
}

struct Calls<'r, O> {
    transport: Transport,
    registry: &'r Registry,
    incoming: Incoming,
    outgoing: Outgoing,
    running: JoinSet<Result<Vec<u8>, String>>,
    open: HashMap<Id, Open<'r>>,
    /// Bytes of the requests of all that is open.
    requests: usize,
    out: BytesMut,
    observe: O,
}

struct Open<'r> {
    head: Head,
    reply: Option<&'r Type>,
    bytes_in: usize,
    since: Instant,
}

impl<O: Fn(Call<'_>)> Calls<'_, O> {
    /// Starts the calls whose requests are whole. Returns whether more bytes are of use.
    fn take(&mut self, input: &mut BytesMut, limits: &Limits) -> Result<bool, CodecError> {
        while self.open.len() < limits.calls
            && self.requests < limits.requests
            && self.out.len() < limits.unsent
        {
            let Some(message) = self.incoming.next(input)? else { return Ok(true) };
            self.start(message)?;
        }
        Ok(false)
    }

    fn start(&mut self, mut message: Message) -> Result<(), CodecError> {
        let method = self.registry.get(&message.head.service_method);
        let started = match &method {
            Ok(method) => (method.start)(&mut self.incoming, &message, self.transport)
                .map_err(|error| error.to_string()),
            Err(unknown) => {
                self.incoming.skip(&message)?;
                Err(unknown.clone())
            }
        };
        let open = Open {
            head: std::mem::take(&mut message.head),
            reply: method.ok().map(|method| &method.reply),
            bytes_in: message.whole.len(),
            since: Instant::now(),
        };
        match started {
            Ok(reply) => {
                self.requests += open.bytes_in;
                self.open.insert(self.running.spawn(reply).id(), open);
                Ok(())
            }
            Err(error) => self.put(open, Err(error)),
        }
    }

    fn answer(&mut self, done: Result<(Id, Result<Vec<u8>, String>), JoinError>) -> Result<(), CodecError> {
        let (id, result) = match done {
            Ok(done) => done,
            Err(panicked) => (panicked.id(), Err("rpc: the method has failed".to_owned())),
        };
        match self.open.remove(&id) {
            Some(open) => {
                self.requests -= open.bytes_in;
                self.put(open, result)
            }
            None => Ok(()),
        }
    }

    fn put(&mut self, mut open: Open<'_>, result: Result<Vec<u8>, String>) -> Result<(), CodecError> {
        let body = match (&result, open.reply) {
            (Ok(body), Some(ty)) => Some((ty, body.as_slice())),
            (Err(error), _) if !error.is_empty() => {
                open.head.error.clone_from(error);
                None
            }
            // Without a text it would pass for a success.
            _ => {
                open.head.error = "unspecified error".into();
                None
            }
        };
        let response = self.outgoing.response(&open.head, body)?;
        self.out.extend_from_slice(&response);
        (self.observe)(Call {
            transport: self.transport,
            method: &open.head.service_method,
            known: open.reply.is_some(),
            seq: open.head.seq,
            bytes_in: open.bytes_in,
            bytes_out: response.len(),
            error: (!open.head.error.is_empty()).then_some(open.head.error.as_str()),
            elapsed: open.since.elapsed(),
        });
        Ok(())
    }
}
