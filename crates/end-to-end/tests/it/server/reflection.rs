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
                ExtensionRequest, ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
            };

            use super::*;

            async fn ask_all(server: &Server, questions: Vec<MessageRequest>) -> Vec<MessageResponse> {
                let mut client = ServerReflectionClient::new(channel(server.address));
                let requests = questions.into_iter().map(|question| {
                    let message_request = Some(question);
                    ServerReflectionRequest { host: String::new(), message_request }
                });
                let requests: Vec<_> = requests.collect();
                let answers = client.server_reflection_info(tokio_stream::iter(requests.clone())).await;
                let mut answers = answers.unwrap().into_inner();
                let mut all = Vec::new();
                while let Some(answer) = within(answers.message()).await.unwrap() {
                    assert_eq!(answer.original_request.as_ref(), requests.get(all.len()));
                    all.push(answer.message_response.unwrap());
                }
                all
            }

            async fn ask(server: &Server, question: MessageRequest) -> MessageResponse {
                ask_all(server, vec![question]).await.remove(0)
            }

            /// What is asked for is not there, but for the last; whether each gets an
            /// answer that says so.
            pub(super) async fn is_open_to_mistakes(server: &Server) -> bool {
                let none = || "no.Such".to_owned();
                let extension = ExtensionRequest { containing_type: none(), extension_number: -1 };
                let questions = vec![
                    MessageRequest::FileByFilename(none()),
                    MessageRequest::FileContainingSymbol(none()),
                    MessageRequest::FileContainingExtension(extension),
                    MessageRequest::AllExtensionNumbersOfType(none()),
                    MessageRequest::FileContainingSymbol("Greeter".to_owned()),
                ];
                let answers = ask_all(server, questions).await;
                let (last, mistakes) = answers.split_last().unwrap();
                let is_not_found = |answer: &MessageResponse| {
                    matches!(answer, MessageResponse::ErrorResponse(error) if error.error_code == 5)
                };
                mistakes.len() == 4
                    && mistakes.iter().all(is_not_found)
                    && matches!(last, MessageResponse::FileDescriptorResponse(_))
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

const ALWAYS: [&str; 7] = [
    "fourmodes.v1.MeasureService",
    "fourmodes.v1.ProbeService",
    "fourmodes.v1.ServersService",
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
        assert_eq!(v1::services(&server).await.len(), 14);
        assert_eq!(v1alpha::services(&server).await.len(), 14);
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

#[test]
fn what_is_unknown_gets_an_error_and_what_comes_after_it_an_answer() {
    run(async {
        let server = Server::start().await;
        assert!(v1::is_open_to_mistakes(&server).await);
        assert!(v1alpha::is_open_to_mistakes(&server).await);
    });
}

#[test]
fn everything_that_has_a_name_can_be_fetched_by_it() {
    run(async {
        let server = Server::start().await;
        for name in [
            "fourmodes.v1.UnaryService.Multiply",
            "fourmodes.v1.MultiplyRequest.a",
            "fourmodes.v1.SubmitTaskRequest.work",
            "fourmodes.v1.MODE_UNARY",
            "grpc.health.v1.HealthCheckResponse.SERVING",
            "grpc.health.v1.HealthCheckResponse.ServingStatus",
        ] {
            assert_eq!(v1::file_of(&server, name).await.len(), 1, "{name}");
            assert_eq!(v1alpha::file_of(&server, name).await.len(), 1, "{name}");
        }
    });
}

#[test]
fn the_details_of_our_errors_can_be_fetched() {
    run(async {
        let server = Server::start().await;
        for name in ["ErrorInfo", "BadRequest", "ResourceInfo", "RetryInfo", "QuotaFailure", "Status"] {
            let name = format!("google.rpc.{name}");
            assert!(fetched!(v1, &server, &name).get_message_by_name(&name).is_some(), "{name}");
            assert!(fetched!(v1alpha, &server, &name).get_message_by_name(&name).is_some(), "{name}");
        }
    });
}
