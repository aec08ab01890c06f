//! A slow or faulty path below HTTP/2: a TCP forwarder that passes so many bytes a
//! second, passes them late or in pieces, or loses a connection.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

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
use tokio_util::sync::CancellationToken;

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

/// What a path does to what passes.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// Bytes a second in each direction, for all connections together.
    pub rate: Option<u32>,
    /// What is sent comes back in that time. A connection is there at once, though.
    pub round_trip: Duration,
    /// Up to so much later, each piece anew.
    pub jitter: Duration,
    /// Bytes in a piece, at most.
    pub slice: usize,
    /// What becomes of a connection.
    pub fate: Fate,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It passes.
    Passes,
    /// It is closed as soon as it is there.
    Closed,
    /// It is closed when so many bytes have passed in one direction.
    CutAfter(u64),
    /// It is closed when it is that old.
    CutOld(Duration),
    /// Nothing passes any more, without a word, when nothing has passed for so long.
    Forgotten(Duration),
    /// Nothing is taken any more, without a word, when so many bytes have passed in one
    /// direction.
    DeafAfter(u64),
    /// The end of one side is not passed on to the other.
    HalfOpen,
}

impl Link {
    /// A path like any other.
    pub const GOOD: Self = Self {
        rate: None,
        round_trip: Duration::ZERO,
        jitter: Duration::ZERO,
        slice: 2 << 10,
        fate: Fate::Passes,
    };

    /// What it takes ahead of time would hide what it does.
    fn is_small(&self) -> bool {
        self.rate.is_some() || matches!(self.fate, Fate::DeafAfter(_))
    }
}

/// What the connections of a path have in common.
struct Shared {
    link: Link,
    /// When each direction has room again.
    free: [Mutex<Instant>; 2],
}

impl Slow {
    /// In each direction so many bytes a second.
    pub fn rate(target: SocketAddr, bytes_per_second: u32) -> Self {
        Self::over(target, Link { rate: Some(bytes_per_second), ..Link::GOOD })
    }

    /// What is sent comes back in that time. A connection is there at once, though.
    pub fn round_trip(target: SocketAddr, time: Duration) -> Self {
        Self::over(target, Link { round_trip: time, ..Link::GOOD })
    }

    /// A path as it is asked for.
    pub fn over(target: SocketAddr, link: Link) -> Self {
        let runtime = Runtime::new().unwrap();
        let (dead, dies) = watch::channel(false);
        let entered = runtime.enter();
        let socket = TcpSocket::new_v4().unwrap();
        if link.is_small() {
            // What it accepts has the same.
            socket.set_recv_buffer_size(ROOM).unwrap();
        }
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let listener = socket.listen(128).unwrap();
        drop(entered);
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            let now = Instant::now();
            let shared = Arc::new(Shared { link, free: [Mutex::new(now), Mutex::new(now)] });
            while let Ok((client, _)) = listener.accept().await {
                if link.fate != Fate::Closed {
                    tokio::spawn(connect(client, target, shared.clone(), dies.clone()));
                }
            }
        });
        Self { address, url: format!("http://{address}"), dead, _runtime: runtime }
    }

    /// From now on nothing passes, and nothing is taken from anybody.
    pub fn die(&self) {
        self.dead.send_replace(true);
    }
}

/// What both directions of a connection have in common.
struct Life {
    /// When something passed.
    last: Mutex<Instant>,
    cut: CancellationToken,
}

async fn connect(client: TcpStream, target: SocketAddr, shared: Arc<Shared>, dies: watch::Receiver<bool>) {
    let socket = TcpSocket::new_v4().unwrap();
    if shared.link.is_small() {
        socket.set_recv_buffer_size(ROOM).unwrap();
    }
    let Ok(server) = socket.connect(target).await else { return };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let life = Arc::new(Life { last: Mutex::new(Instant::now()), cut: CancellationToken::new() });
    if let Fate::CutOld(time) = shared.link.fate {
        let life = life.clone();
        tokio::spawn(async move {
            sleep(time).await;
            life.cut.cancel();
        });
    }
    tokio::spawn(pass(from_client, to_server, shared.clone(), 0, life.clone(), dies.clone()));
    tokio::spawn(pass(from_server, to_client, shared, 1, life, dies));
}

/// Until either side has gone.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: Arc<Shared>,
    direction: usize,
    life: Arc<Life>,
    mut dies: watch::Receiver<bool>,
) {
    let link = shared.link;
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
        let (mut bytes, mut passed, mut latest) = (vec![0; link.slice], 0, Instant::now());
        while let Ok(read @ 1..) = from.read(&mut bytes).await {
            passed += read as u64;
            let idle = std::mem::replace(&mut *life.last.lock().unwrap(), Instant::now()).elapsed();
            match link.fate {
                Fate::Forgotten(time) if idle > time => std::future::pending().await,
                Fate::DeafAfter(most) if passed > most => std::future::pending().await,
                Fate::CutAfter(most) if passed > most => return life.cut.cancel(),
                _ => {}
            }
            if let Some(rate) = link.rate {
                let free = {
                    let mut free = shared.free[direction].lock().unwrap();
                    *free = (*free).max(Instant::now()) + Duration::from_secs(1) * read as u32 / rate;
                    *free
                };
                sleep_until(free).await;
            }
            let jitter = link.jitter.mul_f64(fastrand::f64());
            latest = latest.max(Instant::now() + link.round_trip / 2 + jitter);
            let _ = put.send((latest, bytes[..read].to_vec()));
        }
        if link.fate == Fate::HalfOpen {
            std::future::pending().await
        }
        drop(put);
        std::future::pending().await
    };
    tokio::select! {
        () = write => {}
        () = read => {}
        () = life.cut.cancelled() => {}
        // It is not closed, either.
        Ok(_) = dies.wait_for(|dead| *dead) => {}
    }
    if *dies.borrow() {
        std::future::pending().await
    }
}
