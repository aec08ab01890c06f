//! A slow path: a TCP forwarder that passes so many bytes a second, or passes them
//! late.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::Runtime,
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};

/// How much it takes from a sender ahead of time.
const ROOM: u32 = 16 << 10;

/// Stops with its handle.
pub struct Slow {
    /// What clients connect to.
    pub address: SocketAddr,
    /// As a client is given it.
    pub url: String,
    dead: watch::Sender<bool>,
    _runtime: Runtime,
}

#[derive(Clone, Copy)]
struct Pace {
    /// What each byte takes.
    byte: Duration,
    /// How much later it arrives.
    delay: Duration,
}

impl Slow {
    /// In each direction so many bytes a second.
    pub fn rate(target: SocketAddr, bytes_per_second: u32) -> Self {
        Self::to(target, Pace { byte: Duration::from_secs(1) / bytes_per_second, delay: Duration::ZERO })
    }

    /// What is sent comes back in that time. A connection is there at once, though.
    pub fn round_trip(target: SocketAddr, time: Duration) -> Self {
        Self::to(target, Pace { byte: Duration::ZERO, delay: time / 2 })
    }

    fn to(target: SocketAddr, pace: Pace) -> Self {
        let runtime = Runtime::new().unwrap();
        let (dead, dies) = watch::channel(false);
        let entered = runtime.enter();
        let socket = TcpSocket::new_v4().unwrap();
        // What it accepts has the same.
        socket.set_recv_buffer_size(ROOM).unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let listener = socket.listen(128).unwrap();
        drop(entered);
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connect(client, target, pace, dies.clone()));
            }
        });
        Self { address, url: format!("http://{address}"), dead, _runtime: runtime }
    }

    /// From now on nothing passes, and nothing is taken from anybody.
    pub fn die(&self) {
        self.dead.send_replace(true);
    }
}

async fn connect(client: TcpStream, target: SocketAddr, pace: Pace, dies: watch::Receiver<bool>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(ROOM).unwrap();
    let Ok(server) = socket.connect(target).await else { return };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::spawn(pass(from_client, to_server, pace, dies.clone()));
    tokio::spawn(pass(from_server, to_client, pace, dies));
}

/// Until either side has gone.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, pace: Pace, mut dies: watch::Receiver<bool>) {
    let (put, mut take) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let write = async {
        while let Some((due, bytes)) = take.recv().await {
            sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let read = async {
        let mut bytes = [0; 2 << 10];
        while let Ok(read @ 1..) = from.read(&mut bytes).await {
            sleep(pace.byte * read as u32).await;
            let _ = put.send((Instant::now() + pace.delay, bytes[..read].to_vec()));
        }
        drop(put);
        std::future::pending().await
    };
    tokio::select! {
        () = write => {}
        () = read => {}
        // It is not closed, either.
        Ok(_) = dies.wait_for(|dead| *dead) => {}
    }
    if *dies.borrow() {
        std::future::pending().await
    }
}
