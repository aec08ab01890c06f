//! Peers that speak no gRPC.

use test_support::{Member, Server, assert_answers, run, within};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

#[test]
fn other_protocols_on_the_port_hurt_nobody() {
    run(async {
        let server = Server::start().await;
        let mut ana = Member::joined(server.address, "lobby", "ana").await;
        let garbage: Vec<u8> =
            (0..64 << 10).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let http2_garbage = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &garbage].concat();
        let http1 = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
        let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
        for bytes in [garbage, http2_garbage, http1, tls] {
            let mut peer = TcpStream::connect(server.address).await.unwrap();
            // The server may close before it has read everything.
            let _ = within(peer.write_all(&bytes)).await;
            let _ = within(peer.read_to_end(&mut Vec::new())).await;
            assert_answers(server.address).await;
        }
        ana.post("still here").await;
        assert_eq!(ana.hear().await.unwrap(), "2 ana: still here");
    });
}
