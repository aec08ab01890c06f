use std::net::SocketAddr;

use grpc_wire::Mode;
use shared_proto::fourmodes::v1::{MultiplyRequest, RecordReadingsRequest, WatchQuotesRequest};
use test_support::{Server, bidi_streaming, channel, client_streaming, run, server_streaming, unary};
use tokio_stream::empty;
use tonic::{Code, Request, Status, client::Grpc};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

/// One call of the mode, to its end.
async fn call(mode: Mode, address: SocketAddr) -> Result<(), Status> {
    match mode {
        Mode::Unary => {
            unary(address).multiply(MultiplyRequest { a: 1, b: 1 }).await?;
        }
        Mode::ServerStreaming => {
            let request = WatchQuotesRequest { count: 1, ..Default::default() };
            let mut stream = server_streaming(address).watch_quotes(request).await?.into_inner();
            while stream.message().await?.is_some() {}
        }
        Mode::ClientStreaming => {
            client_streaming(address).record_readings(empty::<RecordReadingsRequest>()).await?;
        }
        Mode::BidiStreaming => {
            let mut stream = bidi_streaming(address).chat(empty()).await?.into_inner();
            while stream.message().await?.is_some() {}
        }
    }
    Ok(())
}

#[test]
fn a_server_for_one_mode_names_the_command_for_the_others() {
    run(async {
        for served in Mode::ALL {
            let server = Server::serving([served]).await;
            for mode in Mode::ALL {
                let called = call(mode, server.address).await;
                if mode == served {
                    called.unwrap();
                    continue;
                }
                let refused = called.unwrap_err();
                assert_eq!(refused.code(), Code::Unimplemented, "{refused}");
                assert!(refused.message().contains(&format!("`fourmodes-server {mode}`")), "{refused}");
                let info = refused.get_details_error_info().expect("no ErrorInfo");
                assert_eq!((info.reason.as_str(), info.domain.as_str()), ("MODE_NOT_SERVED", "fourmodes"));
                assert_eq!(info.metadata["mode"], mode.name());
                assert_eq!(info.metadata["served"], served.name());
                assert_eq!(info.metadata["command"], format!("fourmodes-server {mode}"));
                assert_eq!(info.metadata.len(), 3);
            }
        }
    });
}

#[test]
fn a_server_for_all_modes_serves_them_all() {
    run(async {
        let server = Server::start().await;
        for mode in Mode::ALL {
            call(mode, server.address).await.unwrap();
        }
    });
}

#[test]
fn all_modes_that_are_served_are_listed() {
    run(async {
        let server = Server::serving([Mode::Unary, Mode::BidiStreaming]).await;
        let refused = call(Mode::ClientStreaming, server.address).await.unwrap_err();
        let info = refused.get_details_error_info().unwrap();
        assert_eq!(info.metadata["served"], "unary, bidi-streaming");
        call(Mode::Unary, server.address).await.unwrap();
        call(Mode::BidiStreaming, server.address).await.unwrap();
    });
}

#[test]
fn an_unknown_method_is_unimplemented_without_being_a_mode_that_is_not_served() {
    run(async {
        let server = Server::start().await;
        for path in ["/fourmodes.v1.UnaryService/Divide", "/fourmodes.v2.UnaryService/Multiply"] {
            let mut grpc = Grpc::new(channel(server.address));
            grpc.ready().await.unwrap();
            let codec = ProstCodec::<MultiplyRequest, MultiplyRequest>::default();
            let request = Request::new(MultiplyRequest::default());
            let refused = grpc.unary(request, path.parse().unwrap(), codec).await.unwrap_err();
            assert_eq!(refused.code(), Code::Unimplemented, "{path}: {refused}");
            assert!(refused.get_details_error_info().is_none(), "{path}: {refused}");
        }
    });
}
