use grpc_wire::Mode;
use prost::Message as _;
use prost_reflect::DescriptorPool;
use prost_types::FileDescriptorProto;
use test_support::{Server, channel, run, within};

/// The two versions differ in their package only.
macro_rules! version {
    ($version:ident) => {
        mod $version {
            use tonic_reflection::pb::$version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
            };

            use super::*;

            async fn ask(server: &Server, question: MessageRequest) -> MessageResponse {
                let mut client = ServerReflectionClient::new(channel(server.address));
                let message_request = Some(question);
                let request = ServerReflectionRequest { host: String::new(), message_request };
                let answers = client.server_reflection_info(tokio_stream::iter([request])).await;
                let answer = within(answers.unwrap().into_inner().message()).await.unwrap();
                answer.unwrap().message_response.unwrap()
            }

            pub(super) async fn services(server: &Server) -> Vec<String> {
                match ask(server, MessageRequest::ListServices(String::new())).await {
                    MessageResponse::ListServicesResponse(list) => {
                        list.service.into_iter().map(|service| service.name).collect()
                    }
                    other => panic!("{other:?}"),
                }
            }

            pub(super) async fn file_of(server: &Server, symbol: &str) -> Vec<FileDescriptorProto> {
                files(ask(server, MessageRequest::FileContainingSymbol(symbol.to_owned())).await)
            }

            pub(super) async fn file(server: &Server, name: &str) -> Vec<FileDescriptorProto> {
                files(ask(server, MessageRequest::FileByFilename(name.to_owned())).await)
            }

            fn files(answer: MessageResponse) -> Vec<FileDescriptorProto> {
                let MessageResponse::FileDescriptorResponse(files) = answer else { panic!("{answer:?}") };
                let files = files.file_descriptor_proto.iter();
                files.map(|file| FileDescriptorProto::decode(file.as_slice()).unwrap()).collect()
            }
        }
    };
}

version!(v1);
version!(v1alpha);

const ALWAYS: [&str; 6] = [
    "fourmodes.v1.MeasureService",
    "fourmodes.v1.ProbeService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "grpc.testing.TestService",
];

/// Its RPCs are of two modes.
const BYTE_STREAM: &str = "google.bytestream.ByteStream";

#[test]
fn reflection_lists_exactly_what_is_served() {
    let all: [(Mode, &[&str]); 4] = [
        (Mode::Unary, &["Greeter", "fourmodes.v1.UnaryService"]),
        (
            Mode::ServerStreaming,
            &["fourmodes.v1.ServerStreamingService", BYTE_STREAM, "streamingdemo.StreamService"],
        ),
        (Mode::ClientStreaming, &["fourmodes.v1.ClientStreamingService", BYTE_STREAM]),
        (Mode::BidiStreaming, &["fourmodes.v1.BidiStreamingService"]),
    ];
    run(async {
        for (mode, own) in all {
            let server = Server::serving([mode]).await;
            let mut expected = [own, &ALWAYS].concat();
            expected.sort_unstable();
            for mut listed in [v1::services(&server).await, v1alpha::services(&server).await] {
                listed.sort_unstable();
                assert_eq!(listed, expected, "{mode}");
            }
        }
        let server = Server::start().await;
        assert_eq!(v1::services(&server).await.len(), 13);
        assert_eq!(v1alpha::services(&server).await.len(), 13);
    });
}

/// Fetches a symbol as a generic client does: its file, then what that imports.
macro_rules! fetched {
    ($version:ident, $server:expr, $symbol:expr) => {{
        let mut pool = DescriptorPool::new();
        let mut files = $version::file_of($server, $symbol).await;
        let mut next = 0;
        while next < files.len() {
            for import in files[next].dependency.clone() {
                if !files.iter().any(|file| file.name() == import) {
                    files.extend($version::file($server, &import).await);
                }
            }
            next += 1;
        }
        pool.add_file_descriptor_protos(files).unwrap();
        pool
    }};
}

#[test]
fn a_service_can_be_fetched_with_all_that_it_imports() {
    run(async {
        let server = Server::start().await;
        for pool in [
            fetched!(v1, &server, "fourmodes.v1.UnaryService"),
            fetched!(v1alpha, &server, "fourmodes.v1.UnaryService"),
        ] {
            let service = pool.get_service_by_name("fourmodes.v1.UnaryService").unwrap();
            let methods: Vec<_> = service.methods().map(|method| method.name().to_owned()).collect();
            assert_eq!(methods[..3], ["Multiply", "GetStatus", "SubmitTask"]);
            assert!(pool.get_message_by_name("google.protobuf.Timestamp").is_some());
        }
    });
}

#[test]
fn every_service_that_is_listed_can_be_fetched() {
    run(async {
        let server = Server::start().await;
        for name in v1::services(&server).await {
            assert!(fetched!(v1, &server, &name).get_service_by_name(&name).is_some(), "{name}");
            assert!(fetched!(v1alpha, &server, &name).get_service_by_name(&name).is_some(), "{name}");
        }
    });
}
