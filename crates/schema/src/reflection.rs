//! Schemas from a server, by gRPC's reflection.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use prost_types::FileDescriptorProto;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status, Streaming,
    body::Body,
    client::{Grpc, GrpcService},
    metadata::MetadataMap,
};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::{
    ErrorResponse, ExtensionRequest, ServerReflectionRequest, ServerReflectionResponse,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::{Error, Schema, Unknown, file::File};

/// Both have the same messages.
const VERSIONS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than this no server has to say about one service.
const MOST_FILES: usize = 5_000;
const MOST_BYTES: usize = 64 << 20;

/// Why a server does not say what it has.
#[derive(Debug, thiserror::Error)]
pub enum ReflectionError {
    /// It has no reflection.
    #[error("the server has no reflection, neither grpc.reflection.v1 nor v1alpha")]
    Off,
    /// It broke off.
    #[error("the server's reflection failed: {}", .0.message())]
    Status(Status),
    /// It says nothing.
    #[error("the server's reflection has not answered for {PATIENCE:?}")]
    Silent,
    /// It answers something else.
    #[error("the server's reflection is broken: {0}")]
    Broken(String),
    /// What it says makes no schema.
    #[error(transparent)]
    Schema(#[from] Error),
}

/// A server that can be asked what it has.
pub struct Reflection<C> {
    channel: C,
    metadata: MetadataMap,
    /// The one that the server has.
    version: Option<&'static str>,
    open: Option<Open>,
}

struct Open {
    requests: mpsc::Sender<ServerReflectionRequest>,
    responses: Streaming<ServerReflectionResponse>,
}

impl<C> std::fmt::Debug for Reflection<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reflection").finish_non_exhaustive()
    }
}

impl<C> Reflection<C>
where
    C: GrpcService<Body, ResponseBody = Body> + Clone,
{
    /// Nothing is asked yet. `metadata` goes along.
    pub fn new(channel: C, metadata: MetadataMap) -> Self {
        Self { channel, metadata, version: None, open: None }
    }

    /// The names of the services.
    ///
    /// # Errors
    ///
    /// When the server does not say.
    pub async fn services(&mut self) -> Result<Vec<String>, ReflectionError> {
        match self.ask(MessageRequest::ListServices("*".to_owned())).await? {
            MessageResponse::ListServicesResponse(list) => {
                Ok(list.service.into_iter().map(|service| service.name).collect())
            }
            MessageResponse::ErrorResponse(error) => Err(ReflectionError::Broken(format!(
                "it does not list its services: {}",
                error.error_message
            ))),
            _ => Err(ReflectionError::Broken("an answer other than the list of services".to_owned())),
        }
    }

    /// What belongs to a name of a service or a message: the file with it, what that
    /// imports, and the extensions of what is in there. A service may be named without its
    /// package when only one has that name.
    ///
    /// # Errors
    ///
    /// When the server does not say, or has nothing of that name.
    pub async fn schema(&mut self, symbol: &str) -> Result<Schema, ReflectionError> {
        let mut found = Found::default();
        let asked = self.ask(MessageRequest::FileContainingSymbol(symbol.to_owned())).await?;
        if let Err(reason) = found.take(asked)? {
            let services = self.services().await.unwrap_or_default();
            // Some servers describe no method by its name.
            let owner = symbol.rsplit_once('.').map(|(owner, _)| owner);
            let only = |name: &str| crate::only(name, services.iter().cloned());
            let is_there = |name: &str| services.iter().any(|service| service == name);
            let meant = only(symbol)
                .or_else(|| owner.filter(|owner| is_there(owner)).map(str::to_owned))
                .or_else(|| only(owner?));
            if let Some(full_name) = meant {
                return Box::pin(self.schema(&full_name)).await;
            }
            return Err(match is_there(symbol) {
                true => {
                    ReflectionError::Broken(format!("it lists {symbol}, but does not describe it: {reason}"))
                }
                false => Error::from(Unknown::among("service", symbol, services)).into(),
            });
        }
        let own = found.files.keys().cloned().collect();
        self.imports(&mut found).await?;
        self.extensions(&mut found).await?;
        Ok(Schema::of(found.files.into_values().collect(), own)?)
    }

    async fn imports(&mut self, found: &mut Found) -> Result<(), ReflectionError> {
        while let Some(import) = found.wanted.pop_front() {
            let is_known = found.files.contains_key(&import) || import.starts_with("google/protobuf/");
            if !is_known && found.asked.insert(import.clone()) {
                let answer = self.ask(MessageRequest::FileByFilename(import)).await?;
                // One that is missing may well not be needed.
                let _missing = found.take(answer)?;
            }
        }
        Ok(())
    }

    async fn extensions(&mut self, found: &mut Found) -> Result<(), ReflectionError> {
        let extendable: Vec<_> = found.files.values().flat_map(|file| extendable(&file.proto)).collect();
        for containing_type in extendable {
            let request = MessageRequest::AllExtensionNumbersOfType(containing_type.clone());
            // Many servers know none of it.
            let MessageResponse::AllExtensionNumbersResponse(numbers) = self.ask(request).await? else {
                continue;
            };
            for extension_number in numbers.extension_number {
                let extension =
                    ExtensionRequest { containing_type: containing_type.clone(), extension_number };
                let answer = self.ask(MessageRequest::FileContainingExtension(extension)).await?;
                let _missing = found.take(answer)?;
            }
        }
        self.imports(found).await
    }

    async fn ask(&mut self, message: MessageRequest) -> Result<MessageResponse, ReflectionError> {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(message) };
        let asked = timeout(PATIENCE, self.answer(request)).await.map_err(|_| ReflectionError::Silent)?;
        let asked = match asked {
            // Some servers end all of it when they do not know one thing.
            Err(ReflectionError::Status(status)) if self.version.is_some() && is_unknown(&status) => {
                self.open = None;
                let error_message = status.message().to_owned();
                let error = ErrorResponse { error_code: status.code().into(), error_message };
                return Ok(MessageResponse::ErrorResponse(error));
            }
            asked => asked,
        };
        asked?
            .message_response
            .ok_or_else(|| ReflectionError::Broken("an answer with nothing in it".to_owned()))
    }

    async fn answer(
        &mut self,
        request: ServerReflectionRequest,
    ) -> Result<ServerReflectionResponse, ReflectionError> {
        if let Some(open) = &mut self.open {
            // When it is closed, the answer tells why.
            let _ = open.requests.send(request).await;
            let answer = open.responses.message().await.map_err(ReflectionError::Status)?;
            return answer
                .ok_or_else(|| ReflectionError::Broken("it ended before the last answer".to_owned()));
        }
        let versions = self.version.map_or(VERSIONS.to_vec(), |version| vec![version]);
        for version in versions {
            let (requests, stream) = mpsc::channel(1);
            let _ = requests.send(request.clone()).await;
            let mut asking = Request::new(ReceiverStream::new(stream));
            *asking.metadata_mut() = self.metadata.clone();
            match self.begin(asking, version).await {
                Ok((responses, answer)) => {
                    self.version = Some(version);
                    self.open = Some(Open { requests, responses });
                    return Ok(answer);
                }
                Err(status) if status.code() == Code::Unimplemented && self.version.is_none() => {}
                Err(status) => {
                    if status.code() == Code::NotFound {
                        self.version = Some(version);
                    }
                    return Err(ReflectionError::Status(status));
                }
            }
        }
        Err(ReflectionError::Off)
    }

    async fn begin(
        &self,
        asking: Request<ReceiverStream<ServerReflectionRequest>>,
        path: &'static str,
    ) -> Result<(Streaming<ServerReflectionResponse>, ServerReflectionResponse), Status> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(MOST_BYTES);
        let ready = grpc.ready().await;
        ready.map_err(|error| Status::from_error(error.into()))?;
        let codec = ProstCodec::<ServerReflectionRequest, ServerReflectionResponse>::default();
        let mut responses =
            grpc.streaming(asking, http::uri::PathAndQuery::from_static(path), codec).await?.into_inner();
        let answer = responses.message().await?;
        Ok((responses, answer.ok_or_else(|| Status::unimplemented("no answer"))?))
    }
}

fn is_unknown(status: &Status) -> bool {
    matches!(status.code(), Code::NotFound | Code::InvalidArgument | Code::Unimplemented | Code::OutOfRange)
}

/// What a server has sent so far.
#[derive(Default)]
struct Found {
    files: HashMap<String, File>,
    bytes: usize,
    /// Imports that were not looked for yet.
    wanted: VecDeque<String>,
    asked: HashSet<String>,
}

impl Found {
    /// Takes the files in an answer. The inner error is what the server says instead.
    fn take(&mut self, answer: MessageResponse) -> Result<Result<(), String>, ReflectionError> {
        let files = match answer {
            MessageResponse::FileDescriptorResponse(response) => response.file_descriptor_proto,
            MessageResponse::ErrorResponse(error) => return Ok(Err(error.error_message)),
            _ => return Err(ReflectionError::Broken("an answer other than descriptors".to_owned())),
        };
        for bytes in files {
            self.bytes += bytes.len();
            if self.bytes > MOST_BYTES || self.files.len().max(self.asked.len()) >= MOST_FILES {
                let limit = format!("more than {MOST_FILES} files, or {MOST_BYTES} bytes of them");
                return Err(ReflectionError::Broken(limit));
            }
            let file = File::decode(&bytes)?;
            self.wanted.extend(file.proto.dependency.iter().cloned());
            self.files.insert(file.proto.name().to_owned(), file);
        }
        Ok(Ok(()))
    }
}

/// The messages of a file that others may extend.
fn extendable(file: &FileDescriptorProto) -> Vec<String> {
    let package = if file.package().is_empty() { String::new() } else { format!("{}.", file.package()) };
    let mut found = Vec::new();
    let mut next: Vec<_> =
        file.message_type.iter().map(|message| (format!("{package}{}", message.name()), message)).collect();
    while let Some((name, message)) = next.pop() {
        next.extend(message.nested_type.iter().map(|nested| (format!("{name}.{}", nested.name()), nested)));
        if !message.extension_range.is_empty() && !name.starts_with("google.protobuf.") {
            found.push(name);
        }
    }
    found
}
