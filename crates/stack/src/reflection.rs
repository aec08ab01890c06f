//! Server reflection, version 1 and its forerunner v1alpha.
//!
//! The one of tonic-reflection 0.14.9 ends the call at the first name that it does
//! not know, and knows no extension. The protocol answers with an
//! `error_response`, and takes the next question.

use std::{
    collections::HashMap,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Request;
use prost_reflect::{DescriptorPool, FileDescriptor};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Response, Status, Streaming, body::Body, server::NamedService};
use tonic_reflection::pb::{
    v1::{
        ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
        ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
        server_reflection_request::MessageRequest as Question,
        server_reflection_response::MessageResponse as Answer,
        server_reflection_server::{ServerReflection, ServerReflectionServer},
    },
    v1alpha,
};
use tower::Service;

/// Knows all descriptors of a pool, and lists some of its services.
#[derive(Clone)]
pub(crate) struct Reflection(Arc<Known>);

struct Known {
    pool: DescriptorPool,
    /// The file of each name: of messages, fields, enums and all else.
    symbols: HashMap<String, FileDescriptor>,
    listed: Vec<&'static str>,
}

impl Reflection {
    pub(crate) fn new(pool: DescriptorPool, listed: Vec<&'static str>) -> Self {
        let symbols = symbols(&pool);
        Self(Arc::new(Known { pool, symbols, listed }))
    }

    pub(crate) fn v1(&self) -> ServerReflectionServer<Self> {
        ServerReflectionServer::new(self.clone())
    }

    pub(crate) fn v1alpha(&self) -> V1Alpha {
        V1Alpha(self.v1())
    }
}

fn symbols(pool: &DescriptorPool) -> HashMap<String, FileDescriptor> {
    let mut symbols = HashMap::new();
    let mut add = |name: &str, file: FileDescriptor| {
        symbols.insert(name.to_owned(), file);
    };
    for message in pool.all_messages() {
        add(message.full_name(), message.parent_file());
        message.fields().for_each(|field| add(field.full_name(), message.parent_file()));
        message.oneofs().for_each(|oneof| add(oneof.full_name(), message.parent_file()));
    }
    for kind in pool.all_enums() {
        add(kind.full_name(), kind.parent_file());
        kind.values().for_each(|value| add(value.full_name(), kind.parent_file()));
    }
    for service in pool.services() {
        add(service.full_name(), service.parent_file());
        service.methods().for_each(|method| add(method.full_name(), service.parent_file()));
    }
    for extension in pool.all_extensions() {
        add(extension.full_name(), extension.parent_file());
    }
    symbols
}

impl Known {
    fn answer(&self, request: ServerReflectionRequest) -> ServerReflectionResponse {
        let answer = match &request.message_request {
            Some(question) => {
                self.find(question).unwrap_or_else(|| failure(Code::NotFound, "it is not known here"))
            }
            None => failure(Code::InvalidArgument, "the request asks for nothing"),
        };
        ServerReflectionResponse {
            valid_host: request.host.clone(),
            original_request: Some(request),
            message_response: Some(answer),
        }
    }

    fn find(&self, question: &Question) -> Option<Answer> {
        let file = match question {
            Question::FileByFilename(name) => self.pool.get_file_by_name(name),
            Question::FileContainingSymbol(name) => self.symbols.get(name).cloned(),
            Question::FileContainingExtension(wanted) => {
                let extended = self.pool.get_message_by_name(&wanted.containing_type)?;
                let number = wanted.extension_number.try_into().ok()?;
                Some(extended.get_extension(number)?.parent_file())
            }
            Question::AllExtensionNumbersOfType(name) => {
                let extended = self.pool.get_message_by_name(name)?;
                let numbers = extended.extensions().map(|extension| extension.number() as i32);
                return Some(Answer::AllExtensionNumbersResponse(ExtensionNumberResponse {
                    base_type_name: name.clone(),
                    extension_number: numbers.collect(),
                }));
            }
            Question::ListServices(_) => {
                let listed = self.listed.iter().map(|name| ServiceResponse { name: (*name).to_owned() });
                return Some(Answer::ListServicesResponse(ListServiceResponse { service: listed.collect() }));
            }
        };
        let file_descriptor_proto = vec![file?.encode_to_vec()];
        Some(Answer::FileDescriptorResponse(FileDescriptorResponse { file_descriptor_proto }))
    }
}

fn failure(code: Code, message: &str) -> Answer {
    Answer::ErrorResponse(ErrorResponse { error_code: code.into(), error_message: message.to_owned() })
}

#[tonic::async_trait]
impl ServerReflection for Reflection {
    type ServerReflectionInfoStream =
        Pin<Box<dyn Stream<Item = Result<ServerReflectionResponse, Status>> + Send>>;

    async fn server_reflection_info(
        &self,
        requests: tonic::Request<Streaming<ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let Self(known) = self.clone();
        let answers = requests.into_inner().map(move |request| request.map(|request| known.answer(request)));
        Ok(Response::new(Box::pin(answers)))
    }
}

/// The older version: the messages are the same, and only the package has another
/// name.
#[derive(Clone)]
pub(crate) struct V1Alpha(ServerReflectionServer<Reflection>);

impl NamedService for V1Alpha {
    const NAME: &'static str = v1alpha::server_reflection_server::SERVICE_NAME;
}

impl Service<Request<Body>> for V1Alpha {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = <ServerReflectionServer<Reflection> as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Ok(path) = request.uri().path().replacen(".v1alpha.", ".v1.", 1).parse() {
            *request.uri_mut() = path;
        }
        self.0.call(request)
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::prost_types::{
        DescriptorProto, FieldDescriptorProto, FileDescriptorProto, descriptor_proto::ExtensionRange,
        field_descriptor_proto::Type,
    };
    use tonic_reflection::pb::v1::ExtensionRequest;

    use super::*;

    #[test]
    fn an_extension_is_found_by_its_number() {
        let range = ExtensionRange { start: Some(100), end: Some(200), options: None };
        let extended = DescriptorProto {
            name: Some("Extended".to_owned()),
            extension_range: vec![range],
            ..DescriptorProto::default()
        };
        let extension = FieldDescriptorProto {
            name: Some("more".to_owned()),
            number: Some(101),
            r#type: Some(Type::Int32.into()),
            extendee: Some(".Extended".to_owned()),
            ..FieldDescriptorProto::default()
        };
        let file = FileDescriptorProto {
            name: Some("extended.proto".to_owned()),
            message_type: vec![extended],
            extension: vec![extension],
            ..FileDescriptorProto::default()
        };
        let mut pool = DescriptorPool::new();
        pool.add_file_descriptor_proto(file).unwrap();
        let Reflection(known) = Reflection::new(pool, Vec::new());
        let containing_type = "Extended".to_owned();
        let numbers = known.find(&Question::AllExtensionNumbersOfType(containing_type.clone()));
        assert!(
            matches!(numbers, Some(Answer::AllExtensionNumbersResponse(it)) if it.extension_number == [101])
        );
        for (extension_number, is_known) in [(101, true), (102, false), (-1, false)] {
            let wanted = ExtensionRequest { containing_type: containing_type.clone(), extension_number };
            let found = known.find(&Question::FileContainingExtension(wanted));
            assert_eq!(found.is_some(), is_known, "{extension_number}");
        }
    }
}
