//! Requests and responses on the wire: those of `net/rpc` and those of `net/rpc/jsonrpc`.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::gob::{self, Decoder, Encoder, Limits, Type};
use crate::json;

/// How a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// gob over the bare stream: Go's `rpc.Dial`.
    Tcp,
    /// gob behind an HTTP CONNECT: Go's `rpc.DialHTTP`.
    Http,
    /// JSON-RPC 1.0: Go's `jsonrpc.Dial`.
    Json,
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Json => "json",
        })
    }
}

/// Bytes that are no message, or a value that is not the wanted one.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub enum CodecError {
    /// In gob.
    Gob(#[from] gob::Error),
    /// In JSON.
    Json(#[from] json::Error),
}

impl From<serde_json::Error> for CodecError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error.into())
    }
}

/// What stands before the body.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Head {
    pub(crate) service_method: String,
    pub(crate) seq: u64,
    /// Of a response. Empty: the call succeeded.
    pub(crate) error: String,
    /// Of a JSON request, to be sent back as it is.
    #[serde(skip)]
    pub(crate) id: Option<Box<RawValue>>,
}

/// A request or a response.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) head: Head,
    /// All its bytes, with the types described on its way.
    pub(crate) whole: Bytes,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Gob(Range<usize>),
    Params(Option<Box<RawValue>>),
    Result(Value),
}

/// The direction from the other end to here.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// `at`: how far the buffer is read; `head`: of the message whose body is to come.
    Gob {
        decoder: Decoder,
        at: usize,
        head: Option<Head>,
    },
    JsonRequests {
        scanner: json::Scanner,
        limit: usize,
        seq: u64,
    },
    JsonResponses {
        scanner: json::Scanner,
        limit: usize,
    },
}

#[derive(Deserialize)]
struct JsonRequest {
    #[serde(default, deserialize_with = "null_is_zero")]
    method: String,
    params: Option<Box<RawValue>>,
    id: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct JsonResponse {
    #[serde(default, deserialize_with = "null_is_zero")]
    id: u64,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    error: Value,
}

fn null_is_zero<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

impl Incoming {
    pub(crate) fn new(transport: Transport, limits: &Limits, of_server: bool) -> Self {
        let (scanner, limit) = (json::Scanner::default(), limits.message);
        match transport {
            Transport::Tcp | Transport::Http => {
                Self::Gob { decoder: Decoder::new(limits.clone()), at: 0, head: None }
            }
            Transport::Json if of_server => Self::JsonRequests { scanner, limit, seq: 0 },
            Transport::Json => Self::JsonResponses { scanner, limit },
        }
    }

    /// Takes the next message off `buffer`. `None`: more bytes are needed. Nobody else may take any.
    /// After an error the stream has no further message.
    pub(crate) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Message>, CodecError> {
        match self {
            Self::Gob { decoder, at, head } => Ok(next_gob(decoder, at, head, buffer)?),
            Self::JsonRequests { scanner, limit, seq } => {
                let Some(end) = scanner.end(buffer, *limit)? else { return Ok(None) };
                let whole = buffer.split_to(end).freeze();
                let JsonRequest { method, params, id } = serde_json::from_slice(&whole)?;
                *seq += 1;
                let head = Head { service_method: method, seq: *seq, id, ..Head::default() };
                Ok(Some(Message { head, whole, body: Body::Params(params) }))
            }
            Self::JsonResponses { scanner, limit } => {
                let Some(end) = scanner.end(buffer, *limit)? else { return Ok(None) };
                let whole = buffer.split_to(end).freeze();
                let JsonResponse { id, result, error } = serde_json::from_slice(&whole)?;
                let error = match error {
                    Value::Null if !result.is_null() => String::new(),
                    Value::String(text) if text.is_empty() => "unspecified error".into(),
                    Value::String(text) => text,
                    other => return Err(json::Error::InvalidError(other).into()),
                };
                let head = Head { seq: id, error, ..Head::default() };
                Ok(Some(Message { head, whole, body: Body::Result(result) }))
            }
        }
    }

    /// Whether the stream may end here: `buffer` holds no part of a message.
    pub(crate) fn is_between(&self, buffer: &BytesMut) -> bool {
        buffer.is_empty() || !matches!(self, Self::Gob { .. }) && buffer.trim_ascii().is_empty()
    }

    /// The body of the message that came last, as a `T`.
    pub(crate) fn decode<T: DeserializeOwned>(
        &mut self,
        message: &Message,
        ty: &Type,
    ) -> Result<T, CodecError> {
        match (self, &message.body) {
            (Self::Gob { decoder, .. }, Body::Gob(range)) => {
                let value = decoder.message(&message.whole[range.clone()])?;
                Ok(value.ok_or(gob::Error::Truncated)?.decode(ty)?)
            }
            (_, Body::Params(params)) => Ok(json::params(params.as_deref())?),
            (_, Body::Result(value)) => Ok(json::from_value(value)?),
            (_, Body::Gob(_)) => Err(gob::Error::Truncated.into()),
        }
    }

    /// Reads the body of the message that came last for the types that it brings along.
    pub(crate) fn skip(&mut self, message: &Message) -> Result<(), CodecError> {
        if let (Self::Gob { decoder, .. }, Body::Gob(range)) = (self, &message.body)
            && let Some(value) = decoder.message(&message.whole[range.clone()])?
        {
            value.skip()?;
        }
        Ok(())
    }
}

fn next_gob(
    decoder: &mut Decoder,
    at: &mut usize,
    head: &mut Option<Head>,
    buffer: &mut BytesMut,
) -> Result<Option<Message>, gob::Error> {
    let limit = decoder.limits().message;
    while let Some(range) = gob::frame(&buffer[*at..], limit)? {
        let range = *at + range.start..*at + range.end;
        *at = range.end;
        let Some(value) = decoder.message(&buffer[range.clone()])? else { continue };
        match head.take() {
            None => *head = Some(value.decode(&header("Response", true))?),
            Some(head) => {
                let whole = buffer.split_to(std::mem::take(at)).freeze();
                return Ok(Some(Message { head, whole, body: Body::Gob(range) }));
            }
        }
    }
    Ok(None)
}

/// The type of Go's `rpc.Request` or `rpc.Response`.
fn header(name: &str, error: bool) -> Type {
    let mut fields = vec![("ServiceMethod".to_owned(), Type::String), ("Seq".to_owned(), Type::Uint)];
    if error {
        fields.push(("Error".to_owned(), Type::String));
    }
    Type::Struct { name: name.to_owned(), fields }
}

/// The bytes of a body, for [`Outgoing`].
pub(crate) fn encode<T: Serialize>(
    transport: Transport,
    ty: &Type,
    value: &T,
) -> Result<Vec<u8>, CodecError> {
    match (transport, ty) {
        (Transport::Tcp | Transport::Http, _) => Ok(gob::encode_value(ty, value)?),
        // Serde writes null, which a Go client takes for no result.
        (Transport::Json, Type::Struct { fields, .. }) if fields.is_empty() => Ok(b"{}".to_vec()),
        (Transport::Json, _) => Ok(serde_json::to_vec(value)?),
    }
}

/// The direction from here to the other end.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Gob { encoder: Encoder, header: Type },
    Json,
}

impl Outgoing {
    pub(crate) fn new(transport: Transport, of_server: bool) -> Self {
        match transport {
            Transport::Json => Self::Json,
            Transport::Tcp | Transport::Http => {
                let header = if of_server { header("Response", true) } else { header("Request", false) };
                Self::Gob { encoder: Encoder::default(), header }
            }
        }
    }

    /// Appends a request.
    pub(crate) fn request(&mut self, head: &Head, ty: &Type, body: &[u8]) -> Result<Vec<u8>, CodecError> {
        let mut out = Vec::new();
        match self {
            Self::Gob { encoder, header } => {
                encoder.encode(
                    header,
                    &Request { service_method: &head.service_method, seq: head.seq },
                    &mut out,
                )?;
                encoder.put(ty, body, &mut out);
            }
            Self::Json => {
                out.extend_from_slice(b"{\"method\":");
                serde_json::to_writer(&mut out, &head.service_method)?;
                out.extend_from_slice(b",\"params\":[");
                out.extend_from_slice(body);
                out.extend_from_slice(format!("],\"id\":{}}}\n", head.seq).as_bytes());
            }
        }
        Ok(out)
    }

    /// A response. Its body is `result`, unless `head` has an error.
    pub(crate) fn response(
        &mut self,
        head: &Head,
        result: Option<(&Type, &[u8])>,
    ) -> Result<Vec<u8>, CodecError> {
        let mut out = Vec::new();
        match self {
            Self::Gob { encoder, header } => {
                encoder.encode(header, head, &mut out)?;
                match result {
                    Some((ty, body)) => encoder.put(ty, body, &mut out),
                    None => encoder.encode(&Type::of::<()>()?, &(), &mut out)?,
                }
            }
            Self::Json => {
                out.extend_from_slice(b"{\"id\":");
                out.extend_from_slice(head.id.as_ref().map_or("null", |id| id.get()).as_bytes());
                out.extend_from_slice(b",\"result\":");
                out.extend_from_slice(result.map_or(b"null", |(_, body)| body));
                out.extend_from_slice(b",\"error\":");
                serde_json::to_writer(&mut out, &(!head.error.is_empty()).then_some(&head.error))?;
                out.extend_from_slice(b"}\n");
            }
        }
        Ok(out)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Request<'a> {
    service_method: &'a str,
    seq: u64,
}
