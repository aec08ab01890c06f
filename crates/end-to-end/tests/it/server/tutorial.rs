use grpc_wire::Mode;
use shared_proto::tutorial::{
    greeter::{HelloRequest, greeter_client::GreeterClient},
    streaming_demo::{RequestMessage, stream_service_client::StreamServiceClient},
};
use test_support::{Server, channel, reason, run};
use tonic::Code;

#[test]
fn the_greeter_says_who_it_is_talking_to() {
    run(async {
        let mut client = GreeterClient::new(channel(Server::serving([Mode::Unary]).await.address));
        for (name, greeting) in [("小明", "我是小明"), ("", "我是")] {
            let answer = client.say_hello(HelloRequest { name: name.to_owned() }).await.unwrap();
            assert_eq!(answer.into_inner().name, greeting);
        }
    });
}

#[test]
fn the_streaming_demo_gives_its_four_messages() {
    run(async {
        let server = Server::serving([Mode::ServerStreaming]).await;
        let mut client = StreamServiceClient::new(channel(server.address));
        let request = RequestMessage { client_request: "whatever".to_owned() };
        let mut stream = client.server_streaming(request).await.unwrap().into_inner();
        for n in 1..=4 {
            let message = stream.message().await.unwrap().unwrap();
            assert_eq!(message.server_response, format!("Response message {n}"));
        }
        assert!(stream.message().await.unwrap().is_none());
    });
}

#[test]
fn the_tutorials_belong_to_their_modes() {
    run(async {
        let streaming = channel(Server::serving([Mode::ServerStreaming]).await.address);
        let no_greeter = GreeterClient::new(streaming).say_hello(HelloRequest::default()).await.unwrap_err();
        let unary = channel(Server::serving([Mode::Unary]).await.address);
        let no_demo = StreamServiceClient::new(unary).server_streaming(RequestMessage::default()).await;
        for refused in [no_greeter, no_demo.unwrap_err()] {
            let refused = (refused.code(), reason(&refused));
            assert_eq!(refused, (Code::Unimplemented, "MODE_NOT_SERVED".to_owned()));
        }
    });
}
