//! Bytes: what any protocol over TCP can come to at the most.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// The first byte of a connection says what becomes of the others: they come
/// back, or they are thrown away.
pub(crate) const ECHO: u8 = b'e';
pub(crate) const SINK: u8 = b's';

pub(super) async fn serve(listener: TcpListener) -> anyhow::Result<()> {
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        // A client that goes away ends its connection, whatever the error is.
        tokio::spawn(answer(socket));
    }
}

async fn answer(mut socket: TcpStream) -> std::io::Result<()> {
    let what = socket.read_u8().await?;
    let mut bytes = vec![0; 256 << 10];
    loop {
        let length = socket.read(&mut bytes).await?;
        if length == 0 {
            return Ok(());
        }
        if what == ECHO {
            socket.write_all(&bytes[..length]).await?;
        }
    }
}
