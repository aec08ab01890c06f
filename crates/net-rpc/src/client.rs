//! A client.

use std::any::TypeId;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use crate::codec::{CodecError, Head, Incoming, Message, Outgoing, Transport, encode};
use crate::connection::{ConnectionError, push};
use crate::gob::Type;
use crate::{gob, http};

/// What a client takes and keeps.
#[derive(Debug, Clone)]
pub struct ClientLimits {
    /// Of the messages. Default: [`gob::Limits::default`].
    pub gob: gob::Limits,
    /// Calls that are open at a time. Further ones wait. Default: 10,000.
    pub calls: usize,
    /// Bytes of requests that the server has not taken. At the limit calls wait. Default: 1 MiB.
    pub unsent: usize,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self { gob: gob::Limits::default(), calls: 10_000, unsent: 1 << 20 }
    }
}

/// A request or a response that has passed.
#[derive(Debug)]
pub struct Passed<'a> {
    /// From the server.
    pub received: bool,
    /// How the connection speaks.
    pub transport: Transport,
    /// The number of the call.
    pub seq: u64,
    /// The method. Empty: the response is to no call that is open.
    pub method: &'a str,
    /// What the server says: escape it before a terminal gets it.
    pub error: Option<&'a str>,
    /// All its bytes, with the types described on its way.
    pub bytes: &'a [u8],
    body: Option<(&'a mut Incoming, &'a Message)>,
}

impl Passed<'_> {
    /// The reply. `None`: it is a request or an error, or the reply is of another type.
    pub fn reply<R: DeserializeOwned>(&mut self) -> Option<R> {
        let (incoming, message) = self.body.as_mut()?;
        incoming.decode(message, &Type::of::<R>().ok()?).ok()
    }
}

/// A call without a reply. The texts are those of Go's client.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The server says so. The method may have taken effect.
    #[error("{0}")]
    Server(String),
    /// The connection had ended before the call. It took no effect.
    #[error("connection is shut down")]
    Shutdown,
    /// The connection ended during the call, which may have taken effect.
    #[error(transparent)]
    Connection(Arc<ConnectionError>),
    /// The reply is of another type.
    #[error("reading body {0}")]
    Reply(Arc<CodecError>),
    /// The arguments cannot be sent.
    #[error("cannot send the arguments: {0}")]
    Args(Arc<CodecError>),
}

/// A connection on which no call can be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The stream broke.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The server's answer to CONNECT.
    #[error("unexpected HTTP response: {0}")]
    Http(String),
}

/// A connection. Clones share it; it ends with the last one.
#[derive(Clone)]
pub struct Client {
    transport: Transport,
    requests: mpsc::Sender<Request>,
    types: Arc<Mutex<HashMap<TypeId, Arc<Type>>>>,
}

struct Request {
    method: String,
    args: Arc<Type>,
    body: Vec<u8>,
    done: Done,
}

/// Decodes the response and hands it to the caller.
type Done = Box<dyn FnOnce(Result<(&mut Incoming, &Message), CallError>) + Send>;

impl Client {
    /// Begins to speak on a stream. `observe` is called with each request and response, from a task.
    ///
    /// # Errors
    /// The server refuses the CONNECT. Other transports begin without a word.
    pub async fn connect(
        mut io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        transport: Transport,
        limits: ClientLimits,
        observe: impl Fn(Passed<'_>) + Send + 'static,
    ) -> Result<Self, ConnectError> {
        let mut input = BytesMut::new();
        if transport == Transport::Http {
            io.write_all(format!("CONNECT {} HTTP/1.0\n\n", http::PATH).as_bytes()).await?;
            io.flush().await?;
            let line = loop {
                if let Some(line) = http::first_line(&mut input) {
                    break line;
                }
                if input.len() > http::MAX_HEAD || io.read_buf(&mut input).await? == 0 {
                    return Err(ConnectError::Io(std::io::ErrorKind::UnexpectedEof.into()));
                }
            };
            match line.split_once(' ') {
                Some((version, http::CONNECTED)) if version.starts_with("HTTP/") => {}
                other => {
                    return Err(ConnectError::Http(other.map_or(line.as_str(), |other| other.1).to_owned()));
                }
            }
        }
        let (requests, queue) = mpsc::channel(64);
        tokio::spawn(run(io, input, transport, limits, observe, queue));
        Ok(Self { transport, requests, types: Arc::default() })
    }

    /// Calls a method. Any number of calls may be open, and answers may overtake each other. Dropping
    /// the future forgets the reply; the method runs all the same.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call<A, R>(&self, method: &str, args: &A) -> Result<R, CallError>
    where
        A: Serialize + DeserializeOwned + 'static,
        R: DeserializeOwned + Send + 'static,
    {
        let args_error = |error: CodecError| CallError::Args(Arc::new(error));
        let ty = self.ty::<A>().map_err(|error| args_error(error.into()))?;
        let reply = self.ty::<R>().map_err(|error| CallError::Reply(Arc::new(error.into())))?;
        let body = encode(self.transport, &ty, args).map_err(args_error)?;
        let (sender, receiver) = oneshot::channel();
        let done: Done = Box::new(move |response| {
            let result = response.and_then(|(incoming, message)| {
                let decoded = incoming.decode::<R>(message, &reply);
                decoded.map_err(|error| CallError::Reply(Arc::new(error)))
            });
            // Nobody may wait for it any more.
            drop(sender.send(result));
        });
        let request = Request { method: method.to_owned(), args: ty, body, done };
        self.requests.send(request).await.map_err(|_| CallError::Shutdown)?;
        receiver.await.unwrap_or(Err(CallError::Shutdown))
    }

    fn ty<T: DeserializeOwned + 'static>(&self) -> Result<Arc<Type>, gob::Error> {
        let mut types = self.types.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ty) = types.get(&TypeId::of::<T>()) {
            return Ok(Arc::clone(ty));
        }
        let ty = Arc::new(Type::of::<T>()?);
        types.insert(TypeId::of::<T>(), Arc::clone(&ty));
        Ok(ty)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("transport", &self.transport).finish_non_exhaustive()
    }
}

/// The connection, until it ends or the last client does.
async fn run(
    io: impl AsyncRead + AsyncWrite,
    input: BytesMut,
    transport: Transport,
    limits: ClientLimits,
    observe: impl Fn(Passed<'_>),
    mut queue: mpsc::Receiver<Request>,
) {
    let mut open = HashMap::new();
    let connection = Connection { transport, limits, observe, open: &mut open };
    let ended = connection.run(io, input, &mut queue).await;
    queue.close();
    let error = Arc::new(ended.err().unwrap_or(ConnectionError::UnexpectedEof));
    for (_, done) in open.into_values() {
        done(Err(CallError::Connection(Arc::clone(&error))));
    }
    // Those that are still in the queue get a shutdown, as their channel is dropped.
}

struct Connection<'c, O> {
    transport: Transport,
    limits: ClientLimits,
    observe: O,
    open: &'c mut HashMap<u64, (String, Done)>,
}

impl<O: Fn(Passed<'_>)> Connection<'_, O> {
    async fn run(
        mut self,
        io: impl AsyncRead + AsyncWrite,
        mut input: BytesMut,
        queue: &mut mpsc::Receiver<Request>,
    ) -> Result<(), ConnectionError> {
        let (reader, writer) = tokio::io::split(io);
        let (mut reader, mut writer) = (pin!(reader), pin!(writer));
        let mut incoming = Incoming::new(self.transport, &self.limits.gob, false);
        let mut outgoing = Outgoing::new(self.transport, false);
        let (mut out, mut seq, mut unflushed) = (BytesMut::new(), 0, false);
        loop {
            let room = self.open.len() < self.limits.calls && out.len() < self.limits.unsent;
            tokio::select! {
                // What is asked together goes out together.
                biased;
                request = queue.recv(), if room => match request {
                    Some(request) => {
                        self.send(request, seq, &mut outgoing, &mut out);
                        seq += 1;
                    }
                    // Every call holds a client, so none is open.
                    None => return Ok(writer.shutdown().await?),
                },
                read = reader.read_buf(&mut input) => {
                    if read? == 0 {
                        return Err(ConnectionError::UnexpectedEof);
                    }
                    while let Some(message) = incoming.next(&mut input)? {
                        self.receive(&mut incoming, &message)?;
                    }
                }
                written = push(writer.as_mut(), &mut out, &mut unflushed), if unflushed || !out.is_empty() => {
                    written?;
                }
            }
        }
    }

    fn send(&mut self, request: Request, seq: u64, outgoing: &mut Outgoing, out: &mut BytesMut) {
        let Request { method, args, body, done } = request;
        let head = Head { service_method: method, seq, ..Head::default() };
        let bytes = match outgoing.request(&head, &args, &body) {
            Ok(bytes) => bytes,
            Err(error) => return done(Err(CallError::Args(Arc::new(error)))),
        };
        out.extend_from_slice(&bytes);
        let method = head.service_method;
        (self.observe)(Passed {
            received: false,
            transport: self.transport,
            seq,
            method: &method,
            error: None,
            bytes: &bytes,
            body: None,
        });
        self.open.insert(seq, (method, done));
    }

    fn receive(&mut self, incoming: &mut Incoming, message: &Message) -> Result<(), CodecError> {
        let Head { seq, error, .. } = &message.head;
        let (method, done) = self.open.remove(seq).unzip();
        let failed = (!error.is_empty()).then_some(error.as_str());
        (self.observe)(Passed {
            received: true,
            transport: self.transport,
            seq: *seq,
            method: method.as_deref().unwrap_or_default(),
            error: failed,
            bytes: &message.whole,
            body: failed.is_none().then_some((&mut *incoming, message)),
        });
        match done {
            Some(done) if failed.is_none() => {
                done(Ok((incoming, message)));
                Ok(())
            }
            done => {
                if let Some(done) = done {
                    done(Err(CallError::Server(error.clone())));
                }
                incoming.skip(message)
            }
        }
    }
}
