//! The service for measuring: what is sent arrives, and what is asked for comes.

use shared_proto::fourmodes::v1::{
    MeasureBidiStreamingRequest, MeasureClientStreamingRequest, MeasureServerStreamingRequest,
    MeasureUnaryRequest, measure_service_client::MeasureServiceClient,
};
use test_support::{Server, channel, run, within};
use tonic::Code;

#[test]
fn what_is_measured_is_really_done() {
    run(async {
        let server = Server::start().await;
        let mut client = MeasureServiceClient::new(channel(server.address));
        let request = MeasureUnaryRequest { payload: vec![1; 10].into(), response_bytes: 20 };
        assert_eq!(client.measure_unary(request).await.unwrap().into_inner().payload.len(), 20);

        let request = MeasureServerStreamingRequest { count: 1000, response_bytes: 7 };
        let mut responses = client.measure_server_streaming(request).await.unwrap().into_inner();
        let mut count = 0;
        while let Some(response) = responses.message().await.unwrap() {
            assert_eq!(response.payload.len(), 7);
            count += 1;
        }
        assert_eq!(count, 1000);

        let requests = (0..1000)
            .map(|_| MeasureClientStreamingRequest { payload: vec![0; 3].into(), values: vec![1, 2] });
        let response = client.measure_client_streaming(tokio_stream::iter(requests)).await.unwrap();
        let response = response.into_inner();
        assert_eq!((response.messages, response.bytes, response.values), (1000, 3000, 2000));

        let requests = (0..1000)
            .map(|bytes| MeasureBidiStreamingRequest { response_bytes: bytes, ..Default::default() });
        let responses = client.measure_bidi_streaming(tokio_stream::iter(requests)).await.unwrap();
        let mut responses = responses.into_inner();
        for bytes in 0..1000 {
            assert_eq!(responses.message().await.unwrap().unwrap().payload.len(), bytes);
        }
        assert_eq!(responses.message().await.unwrap(), None);
    });
}

#[test]
fn nobody_is_given_more_than_16_mib_at_once() {
    run(async {
        let server = Server::start().await;
        let mut client = MeasureServiceClient::new(channel(server.address));
        let request = MeasureUnaryRequest { response_bytes: (16 << 20) + 1, ..Default::default() };
        assert_eq!(client.measure_unary(request).await.unwrap_err().code(), Code::InvalidArgument);
        let request = MeasureServerStreamingRequest { count: 1, response_bytes: u32::MAX };
        assert_eq!(client.measure_server_streaming(request).await.unwrap_err().code(), Code::InvalidArgument);
    });
}

/// Such a stream never waits by itself: the window of its client is what makes it wait.
#[test]
fn calls_are_answered_beside_a_stream_that_is_always_ready() {
    run(async {
        let server = Server::start().await;
        let mut client = MeasureServiceClient::new(channel(server.address));
        let request = MeasureServerStreamingRequest { count: u64::MAX, response_bytes: 7 };
        let mut responses = client.measure_server_streaming(request).await.unwrap().into_inner();
        let reading = tokio::spawn(async move { while let Ok(Some(_)) = responses.message().await {} });
        for _ in 0..20 {
            within(client.measure_unary(MeasureUnaryRequest::default())).await.unwrap();
        }
        assert!(!reading.is_finished());
        reading.abort();
    });
}
