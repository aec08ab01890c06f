use grpc_wire::Mode;
use test_support::{Server, channel, run, within};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

#[test]
fn health_knows_the_services_that_are_served_and_no_others() {
    let services = [
        (Mode::Unary, "fourmodes.v1.UnaryService"),
        (Mode::Unary, "Greeter"),
        (Mode::ServerStreaming, "fourmodes.v1.ServerStreamingService"),
        (Mode::ServerStreaming, "streamingdemo.StreamService"),
        (Mode::ClientStreaming, "fourmodes.v1.ClientStreamingService"),
        (Mode::BidiStreaming, "fourmodes.v1.BidiStreamingService"),
    ];
    run(async {
        for served in Mode::ALL {
            let mut client = HealthClient::new(channel(Server::serving([served]).await.address));
            let mut check = async |service: &str| {
                let request = HealthCheckRequest { service: service.to_owned() };
                client.check(request).await.map(|response| response.into_inner().status())
            };
            assert_eq!(check("").await.unwrap(), ServingStatus::Serving);
            for (mode, service) in services {
                let health = check(service).await;
                if mode == served {
                    assert_eq!(health.unwrap(), ServingStatus::Serving, "{service} by {served}");
                } else {
                    assert_eq!(health.unwrap_err().code(), Code::NotFound, "{service} by {served}");
                }
            }
        }
    });
}

#[test]
fn a_watch_of_an_unknown_service_says_so_and_goes_on() {
    run(async {
        let server = Server::start().await;
        let mut client = HealthClient::new(channel(server.address));
        let request = HealthCheckRequest { service: "no.Service".to_owned() };
        let mut watch = within(client.watch(request)).await.unwrap().into_inner();
        let first = within(watch.message()).await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::ServiceUnknown);
        // There is nothing more to say of it until the server goes.
        server.begin_shutdown();
        assert_eq!(within(watch.message()).await.unwrap_err().code(), Code::Unavailable);
    });
}

#[test]
fn a_name_that_no_service_can_have_is_not_kept() {
    run(async {
        let server = Server::start().await;
        let mut client = HealthClient::new(channel(server.address));
        let request = HealthCheckRequest { service: "x".repeat(2000) };
        let refused = within(client.watch(request)).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
    });
}
