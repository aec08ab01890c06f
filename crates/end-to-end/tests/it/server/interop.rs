//! The cases of gRPC's interoperability tests, by their names there:
//! <https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md>.

use std::{net::SocketAddr, time::Duration};

use prost::Message as _;
use shared_proto::testing::{
    BoolValue, EchoStatus, Empty, Payload, ResponseParameters, SimpleRequest, StreamingInputCallRequest,
    StreamingOutputCallRequest, StreamingOutputCallResponse, test_service_client::TestServiceClient,
    unimplemented_service_client::UnimplementedServiceClient,
};
use test_support::{RawCall, Server, bad_fields, channel, run, within};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Streaming, codec::CompressionEncoding, metadata::MetadataValue, transport::Channel,
};

fn client(address: SocketAddr) -> TestServiceClient<Channel> {
    TestServiceClient::new(channel(address)).max_decoding_message_size(17 << 20)
}

fn zeros(size: usize) -> Option<Payload> {
    Some(Payload { body: vec![0; size].into(), ..Payload::default() })
}

fn truth(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

fn of_size(size: i32) -> ResponseParameters {
    ResponseParameters { size, ..ResponseParameters::default() }
}

fn asking(response_parameters: Vec<ResponseParameters>) -> StreamingOutputCallRequest {
    StreamingOutputCallRequest { response_parameters, ..StreamingOutputCallRequest::default() }
}

async fn sizes(mut responses: Streaming<StreamingOutputCallResponse>) -> Vec<usize> {
    let mut sizes = Vec::new();
    while let Some(response) = within(responses.message()).await.unwrap() {
        sizes.push(response.payload.unwrap().body.len());
    }
    sizes
}

const LARGE: [i32; 4] = [31_415, 9, 2_653, 58_979];
const LARGE_SIZES: [usize; 4] = [31_415, 9, 2_653, 58_979];

#[test]
fn empty_unary() {
    run(async {
        let server = Server::start().await;
        within(client(server.address).empty_call(Empty {})).await.unwrap();
    });
}

#[test]
fn large_unary() {
    run(async {
        let server = Server::start().await;
        let request = SimpleRequest {
            response_size: 314_159,
            payload: zeros(271_828),
            fill_server_id: true,
            ..Default::default()
        };
        let answer = within(client(server.address).unary_call(request.clone())).await.unwrap().into_inner();
        assert_eq!(answer.payload.unwrap().body, vec![0; 314_159]);
        let again = within(client(server.address).cacheable_unary_call(request)).await.unwrap().into_inner();
        assert_eq!((again.server_id.is_empty(), again.server_id), (false, answer.server_id));
        assert!(answer.username.is_empty() && answer.oauth_scope.is_empty());
    });
}

/// The head, and of each message its flag and its length.
async fn raw(
    server: &Server,
    method: &str,
    encodings: &str,
    request: &impl prost::Message,
) -> (http::HeaderMap, Vec<(u8, usize)>) {
    let headers = [("grpc-accept-encoding", encodings)];
    let path = format!("/grpc.testing.TestService/{method}");
    let (mut call, response) = RawCall::begin(server.address, &path, &headers).await;
    call.send(request, true);
    let (head, mut body) = within(response).await.unwrap().into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = within(body.data()).await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        bytes.extend_from_slice(&data);
    }
    let mut messages = Vec::new();
    let mut rest = bytes.as_slice();
    while let [flag, a, b, c, d, after @ ..] = rest {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        messages.push((*flag, length));
        rest = &after[length..];
    }
    (head.headers, messages)
}

#[test]
fn client_compressed_unary_and_streaming() {
    run(async {
        let server = Server::start().await;
        let plain = client(server.address);
        for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
            let packed = plain.clone().send_compressed(encoding);
            for (mut client, compressed) in [(packed, true), (plain.clone(), false)] {
                for expected in [true, false] {
                    let expect_compressed = truth(expected);
                    let payload = zeros(271_828);
                    let request =
                        SimpleRequest { payload: payload.clone(), expect_compressed, ..Default::default() };
                    let unary = within(client.unary_call(request)).await.err();
                    let request = StreamingInputCallRequest { payload, expect_compressed };
                    let requests = tokio_stream::iter([request.clone(), request]);
                    let streaming = within(client.streaming_input_call(requests)).await;
                    match expected == compressed {
                        true => {
                            assert!(unary.is_none());
                            assert_eq!(streaming.unwrap().into_inner().aggregated_payload_size, 2 * 271_828);
                        }
                        false => {
                            assert_eq!(bad_fields(&unary.unwrap()), ["expect_compressed"]);
                            assert_eq!(bad_fields(&streaming.unwrap_err()), ["expect_compressed"]);
                        }
                    }
                }
            }
        }
    });
}

#[test]
fn server_compressed_unary_and_streaming() {
    run(async {
        let server = Server::start().await;
        let unary = |compressed| SimpleRequest {
            response_size: 314_159,
            response_compressed: truth(compressed),
            ..Default::default()
        };
        let (head, packed) = raw(&server, "UnaryCall", "identity, gzip", &unary(true)).await;
        assert_eq!(head["grpc-encoding"], "gzip");
        assert!(matches!(packed[..], [(1, ..10_000)]), "{packed:?}");
        let (_, plain) = raw(&server, "UnaryCall", "gzip", &unary(false)).await;
        assert!(matches!(plain[..], [(0, 314_159..)]), "{plain:?}");
        let (head, plain) = raw(&server, "UnaryCall", "zstd", &unary(true)).await;
        assert_eq!(head.get("grpc-encoding"), None);
        assert!(matches!(plain[..], [(0, 314_159..)]), "{plain:?}");
        // Each message for itself.
        let sized = |size, compressed| ResponseParameters { compressed: truth(compressed), ..of_size(size) };
        let request = asking(vec![sized(31_415, true), sized(92_653, false), sized(500_000, true)]);
        let (_, messages) = raw(&server, "StreamingOutputCall", "gzip", &request).await;
        assert!(matches!(messages[..], [(1, ..10_000), (0, 92_653..), (1, ..10_000)]), "{messages:?}");
        // And what was packed is what was asked for.
        let mut client = client(server.address).accept_compressed(CompressionEncoding::Gzip);
        let responses = within(client.streaming_output_call(request)).await.unwrap().into_inner();
        assert_eq!(sizes(responses).await, [31_415, 92_653, 500_000]);
        assert_eq!(within(client.unary_call(unary(true))).await.unwrap().into_inner().encoded_len(), 314_167);
    });
}

#[test]
fn client_streaming() {
    run(async {
        let server = Server::start().await;
        let requests = [27_182, 8, 1_828, 45_904]
            .map(|size| StreamingInputCallRequest { payload: zeros(size), expect_compressed: None });
        let answer = within(client(server.address).streaming_input_call(tokio_stream::iter(requests))).await;
        assert_eq!(answer.unwrap().into_inner().aggregated_payload_size, 74_922);
    });
}

#[test]
fn server_streaming() {
    run(async {
        let server = Server::start().await;
        let request = asking(LARGE.map(of_size).to_vec());
        let responses = within(client(server.address).streaming_output_call(request)).await.unwrap();
        assert_eq!(sizes(responses.into_inner()).await, LARGE_SIZES);
        let slow = ResponseParameters { interval_us: 200_000, ..of_size(1) };
        let begun = tokio::time::Instant::now();
        let responses = within(client(server.address).streaming_output_call(asking(vec![slow, slow]))).await;
        assert_eq!(sizes(responses.unwrap().into_inner()).await, [1, 1]);
        assert!(begun.elapsed() >= Duration::from_millis(400));
    });
}

#[test]
fn ping_pong() {
    run(async {
        let server = Server::start().await;
        let (sender, receiver) = mpsc::channel(1);
        let responses = within(client(server.address).full_duplex_call(ReceiverStream::new(receiver))).await;
        let mut responses = responses.unwrap().into_inner();
        for size in LARGE {
            sender.send(asking(vec![of_size(size)])).await.unwrap();
            let response = within(responses.message()).await.unwrap().unwrap();
            assert_eq!(response.payload.unwrap().body.len(), size as usize);
        }
        drop(sender);
        assert!(within(responses.message()).await.unwrap().is_none());
    });
}

#[test]
fn half_duplex() {
    run(async {
        let server = Server::start().await;
        let (sender, receiver) = mpsc::channel(4);
        let responses = within(client(server.address).half_duplex_call(ReceiverStream::new(receiver))).await;
        for size in LARGE {
            sender.send(asking(vec![of_size(size)])).await.unwrap();
        }
        drop(sender);
        assert_eq!(sizes(responses.unwrap().into_inner()).await, LARGE_SIZES);
        let many = tokio_stream::once(asking(vec![of_size(0); (1 << 16) + 1]));
        let responses = within(client(server.address).half_duplex_call(many)).await.unwrap();
        let refused = within(responses.into_inner().message()).await.unwrap_err();
        assert_eq!(bad_fields(&refused), ["response_parameters"]);
    });
}

#[test]
fn empty_stream() {
    run(async {
        let server = Server::start().await;
        let responses = within(client(server.address).full_duplex_call(tokio_stream::empty())).await;
        assert!(sizes(responses.unwrap().into_inner()).await.is_empty());
    });
}

fn with_echo<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-grpc-test-echo-initial", "test_initial_metadata_value".parse().unwrap());
    let binary = MetadataValue::from_bytes(&[0xab, 0xab, 0xab]);
    request.metadata_mut().insert_bin("x-grpc-test-echo-trailing-bin", binary);
    request
}

#[test]
fn custom_metadata() {
    run(async {
        let server = Server::start().await;
        let request = SimpleRequest { response_size: 314_159, ..Default::default() };
        let answer = within(client(server.address).unary_call(with_echo(request))).await.unwrap();
        // tonic's client has the trailers of a unary call among its metadata.
        assert_eq!(answer.metadata().get("x-grpc-test-echo-initial").unwrap(), "test_initial_metadata_value");
        assert!(answer.metadata().get_bin("x-grpc-test-echo-trailing-bin").is_some());
        let requests = with_echo(tokio_stream::once(asking(vec![of_size(10)])));
        let answer = within(client(server.address).full_duplex_call(requests)).await.unwrap();
        assert_eq!(answer.metadata().get("x-grpc-test-echo-initial").unwrap(), "test_initial_metadata_value");
        assert!(answer.metadata().get_bin("x-grpc-test-echo-trailing-bin").is_none());
        let mut responses = answer.into_inner();
        let trailers = within(responses.trailers()).await.unwrap().unwrap();
        let echoed = trailers.get_bin("x-grpc-test-echo-trailing-bin").unwrap();
        assert_eq!(&echoed.to_bytes().unwrap()[..], [0xab, 0xab, 0xab]);
    });
}

#[test]
fn status_code_and_message_and_special_status_message() {
    run(async {
        let server = Server::start().await;
        let special = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";
        for message in ["test status message", special] {
            let response_status = Some(EchoStatus { code: 2, message: message.to_owned() });
            let request = SimpleRequest { response_status: response_status.clone(), ..Default::default() };
            let unary = within(client(server.address).unary_call(request)).await.unwrap_err();
            let request = StreamingOutputCallRequest { response_status, ..Default::default() };
            let responses =
                within(client(server.address).full_duplex_call(tokio_stream::once(request))).await;
            let streaming = within(responses.unwrap().into_inner().message()).await.unwrap_err();
            for status in [unary, streaming] {
                assert_eq!((status.code(), status.message()), (Code::Unknown, message));
            }
        }
    });
}

#[test]
fn unimplemented_method_and_unimplemented_service() {
    run(async {
        let server = Server::start().await;
        let method = within(client(server.address).unimplemented_call(Empty {})).await.unwrap_err();
        let mut service = UnimplementedServiceClient::new(channel(server.address));
        let service = within(service.unimplemented_call(Empty {})).await.unwrap_err();
        assert_eq!((method.code(), service.code()), (Code::Unimplemented, Code::Unimplemented));
    });
}

#[test]
fn cancel_after_begin_and_cancel_after_first_response() {
    run(async {
        let server = Server::start().await;
        let (call, _response) =
            RawCall::begin(server.address, "/grpc.testing.TestService/StreamingInputCall", &[]).await;
        call.cancel();
        let (sender, receiver) = mpsc::channel(1);
        let responses = within(client(server.address).full_duplex_call(ReceiverStream::new(receiver))).await;
        let mut responses = responses.unwrap().into_inner();
        sender.send(asking(vec![of_size(31_415)])).await.unwrap();
        within(responses.message()).await.unwrap().unwrap();
        drop(responses);
        within(client(server.address).empty_call(Empty {})).await.unwrap();
    });
}

#[test]
fn timeout_on_sleeping_server() {
    run(async {
        let server = Server::start().await;
        let path = "/grpc.testing.TestService/FullDuplexCall";
        let request = StreamingOutputCallRequest { payload: zeros(27_182), ..Default::default() };
        let status = RawCall::status(server.address, path, &[("grpc-timeout", "1m")], Some(&request)).await;
        assert_eq!(status.code(), Code::DeadlineExceeded);
    });
}

#[test]
fn sizes_and_intervals_have_bounds() {
    run(async {
        let server = Server::start().await;
        let mut client = client(server.address);
        for size in [-1, (16 << 20) + 1] {
            let request = SimpleRequest { response_size: size, ..Default::default() };
            assert_eq!(bad_fields(&client.unary_call(request).await.unwrap_err()), ["response_size"]);
            let responses = client.streaming_output_call(asking(vec![of_size(size)])).await.unwrap();
            let refused = within(responses.into_inner().message()).await.unwrap_err();
            assert_eq!(bad_fields(&refused), ["response_parameters.size"]);
        }
        let backwards = ResponseParameters { interval_us: -1, ..of_size(1) };
        let responses = client.streaming_output_call(asking(vec![backwards])).await.unwrap();
        let refused = within(responses.into_inner().message()).await.unwrap_err();
        assert_eq!(bad_fields(&refused), ["response_parameters.interval_us"]);
        let request = SimpleRequest { response_size: 16 << 20, ..Default::default() };
        within(client.unary_call(request)).await.unwrap();
    });
}
