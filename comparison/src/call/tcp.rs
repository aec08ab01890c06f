//! Bytes: what any protocol over TCP can come to at the most.

use std::{net::SocketAddr, time::Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::Done;
use crate::{
    serve::tcp::{ECHO, SINK},
    work::Work,
};

pub(super) async fn go_on(address: SocketAddr, work: Work, done: Done) -> anyhow::Result<()> {
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let (_, in_flight) = work.in_flight();
    if let Work::Upload64kib | Work::Upload1mib = work {
        socket.write_u8(SINK).await?;
        let bytes = vec![0; work.message()];
        loop {
            socket.write_all(&bytes).await?;
            done.more(1);
        }
    }
    socket.write_u8(ECHO).await?;
    let question = vec![0; work.message() * in_flight];
    let mut answer = question.clone();
    loop {
        let sent = Instant::now();
        socket.write_all(&question).await?;
        socket.read_exact(&mut answer).await?;
        match in_flight {
            1 => done.answered(sent),
            many => done.more(many as u64),
        }
    }
}
