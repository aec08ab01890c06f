//! What a server says of itself and of others that share its state.

use server::config::Config;
use shared_proto::fourmodes::v1::{
    Server as Listed, WatchServersRequest, WatchServersResponse, servers_service_client::ServersServiceClient,
};
use test_support::{Server, channel, run, within};

async fn told(config: Config) -> (Server, WatchServersResponse) {
    let server = Server::with(config).await;
    let mut client = ServersServiceClient::new(channel(server.address));
    let mut told = within(client.watch_servers(WatchServersRequest {})).await.unwrap().into_inner();
    let told = within(told.message()).await.unwrap().unwrap();
    (server, told)
}

#[test]
fn a_server_that_shares_nothing_lists_itself() {
    run(async {
        let (server, WatchServersResponse { state, servers }) = told(Config::default()).await;
        let url = format!("http://{}", server.address);
        // The call that asks is open.
        assert_eq!(servers, [Listed { url, open_calls: 1, draining: false, answering: true }]);
        assert_eq!(state, "");
    });
}

#[test]
fn a_server_advertises_what_it_is_told_to() {
    run(async {
        let advertise = |text: &str| Config { advertise: text.parse().unwrap(), ..Config::default() };
        let (_server, told_of) = told(advertise("https://edge.example:443")).await;
        assert_eq!(told_of.servers[0].url, "https://edge.example:443");
        assert_eq!(told(advertise("none")).await.1.servers, []);
    });
}
