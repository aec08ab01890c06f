//! Schemas from a server's reflection.

use std::collections::HashMap;

use prost::Message as _;
use prost_types::FileDescriptorProto;
use schema::{Error, Reflection, ReflectionError};
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt as _, wrappers::TcpListenerStream};
use tonic::{
    Request, Response, Status, Streaming,
    metadata::MetadataMap,
    transport::{Channel, Endpoint, Server},
};
use tonic_reflection::pb::{v1, v1alpha};

use crate::support::compiled;

const SOURCE: &str = r#"
    syntax = "proto2";
    package t;
    message M { optional int32 x = 1; extensions 10 to 20; }
    service S { rpc R(M) returns (M); }
"#;
const EXTENSION: &str = r#"
    syntax = "proto2";
    package t;
    message M { optional int32 x = 1; extensions 10 to 20; }
    extend M { optional string note = 10; }
"#;

/// A server's files, by symbol and by name, each answer with that file alone.
#[derive(Clone, Default)]
struct Files {
    by_symbol: HashMap<&'static str, FileDescriptorProto>,
    by_name: HashMap<&'static str, FileDescriptorProto>,
    extension: Option<FileDescriptorProto>,
}

fn proto(source: &str, name: &str) -> FileDescriptorProto {
    let schema = compiled(source);
    let file = schema.pool().files().find(|file| file.name() == "test.proto").unwrap();
    let mut proto = file.file_descriptor_proto().clone();
    proto.name = Some(name.to_owned());
    proto
}

impl Files {
    fn answer(&self, request: v1::ServerReflectionRequest) -> v1::ServerReflectionResponse {
        use v1::{
            server_reflection_request::MessageRequest as Ask,
            server_reflection_response::MessageResponse as Answer,
        };
        let files = |file: Option<&FileDescriptorProto>| match file {
            Some(file) => Answer::FileDescriptorResponse(v1::FileDescriptorResponse {
                file_descriptor_proto: vec![file.encode_to_vec()],
            }),
            None => Answer::ErrorResponse(v1::ErrorResponse {
                error_code: 5,
                error_message: "not here".to_owned(),
            }),
        };
        let answer = match request.message_request.unwrap() {
            Ask::ListServices(_) => Answer::ListServicesResponse(v1::ListServiceResponse {
                service: self
                    .by_symbol
                    .keys()
                    .map(|name| v1::ServiceResponse { name: (*name).to_owned() })
                    .collect(),
            }),
            Ask::FileContainingSymbol(symbol) => files(self.by_symbol.get(symbol.as_str())),
            Ask::FileByFilename(name) => files(self.by_name.get(name.as_str())),
            Ask::AllExtensionNumbersOfType(base_type_name) => {
                Answer::AllExtensionNumbersResponse(v1::ExtensionNumberResponse {
                    base_type_name,
                    extension_number: self.extension.iter().map(|_| 10).collect(),
                })
            }
            Ask::FileContainingExtension(_) => files(self.extension.as_ref()),
        };
        v1::ServerReflectionResponse {
            message_response: Some(answer),
            ..v1::ServerReflectionResponse::default()
        }
    }
}

type Answers<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl v1::server_reflection_server::ServerReflection for Files {
    type ServerReflectionInfoStream = Answers<v1::ServerReflectionResponse>;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<v1::ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let files = self.clone();
        Ok(Response::new(Box::pin(
            request.into_inner().map(move |asked| asked.map(|asked| files.answer(asked))),
        )))
    }
}

#[tonic::async_trait]
impl v1alpha::server_reflection_server::ServerReflection for Files {
    type ServerReflectionInfoStream = Answers<v1alpha::ServerReflectionResponse>;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<v1alpha::ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let files = self.clone();
        Ok(Response::new(Box::pin(request.into_inner().map(move |asked| {
            let asked = v1::ServerReflectionRequest::decode(asked?.encode_to_vec().as_slice()).unwrap();
            let answer = files.answer(asked).encode_to_vec();
            Ok(v1alpha::ServerReflectionResponse::decode(answer.as_slice()).unwrap())
        }))))
    }
}

#[derive(Clone, Copy)]
enum Version {
    V1,
    V1Alpha,
    None,
}

async fn server(files: Files, version: Version) -> Reflection<Channel> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = match version {
        Version::V1 => {
            tonic::service::Routes::new(v1::server_reflection_server::ServerReflectionServer::new(files))
        }
        Version::V1Alpha => {
            tonic::service::Routes::new(v1alpha::server_reflection_server::ServerReflectionServer::new(files))
        }
        Version::None => tonic::service::Routes::default(),
    };
    tokio::spawn(Server::builder().add_routes(routes).serve_with_incoming(TcpListenerStream::new(listener)));
    let channel = Endpoint::try_from(format!("http://{address}")).unwrap().connect().await.unwrap();
    Reflection::new(channel, MetadataMap::new())
}

fn whole() -> Files {
    let mut service = proto("syntax = \"proto3\"; package s;", "service.proto");
    service.dependency = vec!["part.proto".to_owned(), "google/api/annotations.proto".to_owned()];
    let part = proto(SOURCE, "part.proto");
    let mut extension = proto(EXTENSION, "extension.proto");
    extension.message_type.clear();
    extension.dependency = vec!["part.proto".to_owned()];
    service.service = part.service.clone();
    let mut part = part;
    part.service.clear();
    service.service[0].method[0].input_type = Some(".t.M".to_owned());
    Files {
        by_symbol: HashMap::from([("s.S", service)]),
        by_name: HashMap::from([("part.proto", part)]),
        extension: Some(extension),
    }
}

#[tokio::test]
async fn files_imports_and_extensions_are_fetched_from_either_version() {
    for version in [Version::V1, Version::V1Alpha] {
        let mut reflection = server(whole(), version).await;
        assert_eq!(reflection.services().await.unwrap(), ["s.S"]);
        // What is missing of it, nothing needs.
        let schema = reflection.schema("s.S").await.unwrap();
        let input = schema.method("s.S", "R").unwrap().input();
        assert!(input.get_extension_by_full_name("t.note").is_some());
        assert_eq!(schema.services().count(), 1);
        // Without its package.
        assert!(reflection.schema("S").await.unwrap().method("S", "R").is_ok());
        // A method with a dot, at a server that describes no methods.
        for symbol in ["s.S.R", "S.R"] {
            assert!(reflection.schema(symbol).await.unwrap().text(symbol).is_ok());
        }
    }
}

#[tokio::test]
async fn what_a_server_does_not_say_is_an_error_that_names_it() {
    let mut off = server(Files::default(), Version::None).await;
    assert!(matches!(off.services().await, Err(ReflectionError::Off)));

    let mut partial = whole();
    partial.by_name.clear();
    let error = server(partial, Version::V1).await.schema("s.S").await.unwrap_err().to_string();
    assert!(error.contains("service.proto imports part.proto, which is missing"), "{error}");

    let error = server(whole(), Version::V1).await.schema("s.T").await.unwrap_err();
    let ReflectionError::Schema(Error::Unknown(unknown)) = &error else { panic!("{error}") };
    assert_eq!(unknown.nearest, ["s.S"]);

    let mut several = whole();
    several.by_symbol.insert("v2.S", several.by_symbol["s.S"].clone());
    several.by_symbol.insert("other.Service", several.by_symbol["s.S"].clone());
    let error = server(several, Version::V1).await.schema("S").await.unwrap_err();
    let ReflectionError::Schema(Error::Unknown(mut unknown)) = error else { panic!("{error}") };
    unknown.nearest.sort();
    assert_eq!(unknown.nearest, ["s.S", "v2.S"]);
}
