use std::future::pending;

use tokio::sync::watch;

use crate::{hangs, peer, serve, soon, uploads};

/// The calls that a server takes on a connection.
const A_CONNECTION: usize = 200;

#[tokio::test]
async fn a_server_of_connectrpc_limits_the_calls_of_a_connection_and_no_connections() {
    let open = watch::Sender::new(0);
    let mut taken = open.subscribe();
    let router = uploads(move |chunks| {
        open.send_modify(|open| *open += 1);
        async {
            let _chunks = chunks;
            pending().await
        }
    });
    let address = serve(router).await;
    let mut held = Vec::new();
    for connection in 1..=4 {
        let mut client = peer::Client::connect(address).await;
        let all = connection * A_CONNECTION;
        // With the first call come the settings of the server.
        for (calls, open) in [(1, all - A_CONNECTION + 1), (A_CONNECTION - 1, all)] {
            for _ in 0..calls {
                held.push(client.call("MeasureClientStreaming", &[]).await);
            }
            soon(taken.wait_for(|taken| *taken == open)).await.unwrap();
        }
        let more = client.call("MeasureClientStreaming", &[]).await;
        assert!(hangs(taken.changed()).await, "{A_CONNECTION} calls are all of a connection");
        drop(more);
    }
}
