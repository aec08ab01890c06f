//! The program that Connect's conformance runner starts: as a `server` on the stack, or as
//! a `client` on the transport. They speak on stdin and stdout.

mod client;
mod headers;
mod server;

use std::{env, io};

use anyhow::{Context as _, bail};
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

#[allow(unreachable_pub, missing_docs, reason = "generated")]
mod proto {
    tonic::include_proto!("connectrpc.conformance.v1");
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server"] => server::run(false).await,
        // Without the `ErrorInfo` that the stack gives with its own errors: the runner
        // wants errors of a server to have no details but those that it asked for.
        ["server", "--without-error-info"] => server::run(true).await,
        ["client"] => client::run().await,
        _ => bail!("give `server`, `server --without-error-info` or `client`"),
    }
}

/// The next message of the runner; none when it has closed the pipe.
async fn read<M: Message + Default>(from: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<Option<M>> {
    let length = match from.read_u32().await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        length => length?,
    };
    let mut message = vec![0; length as usize];
    from.read_exact(&mut message).await.context("the runner has sent half a message")?;
    Ok(Some(M::decode(&*message)?))
}

async fn write(to: &mut (impl AsyncWrite + Unpin), message: &impl Message) -> io::Result<()> {
    let message = message.encode_to_vec();
    to.write_u32(message.len() as u32).await?;
    to.write_all(&message).await?;
    to.flush().await
}
