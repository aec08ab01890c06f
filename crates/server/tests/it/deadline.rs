use std::time::Duration;

use shared_proto::{
    Mode,
    fourmodes::v1::{RecordReadingsRequest, WatchQuotesRequest},
};
use tokio_stream::pending;
use tonic::Request;

use crate::support::{Server, client_streaming, open_calls, run, server_streaming, until, within};

#[test]
fn an_upload_that_outlives_its_deadline_fails_and_is_freed() {
    run(async {
        let server = Server::start().await;
        let mut request = Request::new(pending::<RecordReadingsRequest>());
        request.set_timeout(Duration::from_millis(200));
        let mut client = client_streaming(server.address);
        within(client.record_readings(request)).await.unwrap_err();
        until(async || open_calls(Mode::ClientStreaming, server.address).await == 0).await;
    });
}

#[test]
fn a_stream_that_its_client_drops_at_the_deadline_is_freed() {
    run(async {
        let server = Server::start().await;
        let deadline = Duration::from_millis(200);
        let mut request = Request::new(WatchQuotesRequest::default());
        request.set_timeout(deadline);
        let mut client = server_streaming(server.address);
        let reading = async {
            let mut quotes = client.watch_quotes(request).await?.into_inner();
            while quotes.message().await?.is_some() {}
            Ok::<_, tonic::Status>(())
        };
        // Whether the server ends the stream first is not said here.
        if let Ok(ended) = tokio::time::timeout(deadline, reading).await {
            ended.unwrap_err();
        }
        until(async || open_calls(Mode::ServerStreaming, server.address).await == 0).await;
    });
}
