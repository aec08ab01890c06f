//! HTTP/2 frame by frame, as no library would send it.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// A kind of frame.
pub const DATA: u8 = 0;
/// A kind of frame.
pub const HEADERS: u8 = 1;
/// A kind of frame.
pub const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
/// A kind of frame.
pub const GOAWAY: u8 = 7;
/// A kind of frame.
pub const CONTINUATION: u8 = 9;

/// A flag of a frame.
pub const END_STREAM: u8 = 1;
/// A flag of a frame.
pub const END_HEADERS: u8 = 4;

/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame as it is on the wire.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The headers of a gRPC call, in HPACK without compression, and then `more`.
pub fn call(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    // :method POST and :scheme http are in the static table.
    let mut block = vec![0x83, 0x86];
    let fields =
        [(":path", path), (":authority", "x"), ("te", "trailers"), ("content-type", "application/grpc")];
    for (name, value) in fields.iter().chain(more) {
        literal(&mut block, name, value);
    }
    block
}

fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        // A length is one byte up to 126, and then 127 and what is left in
        // groups of seven bits.
        match text.len() {
            length @ ..127 => block.push(length as u8),
            length => {
                block.push(127);
                let mut rest = length - 127;
                while rest >= 128 {
                    block.push((rest % 128 + 128) as u8);
                    rest /= 128;
                }
                block.push(rest as u8);
            }
        }
        block.extend_from_slice(text.as_bytes());
    }
}

/// A connection that has said hello.
pub struct Peer {
    reader: OwnedReadHalf,
    /// Where it writes.
    pub writer: OwnedWriteHalf,
}

impl Peer {
    /// Connects, and says hello.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let (reader, mut writer) = TcpStream::connect(address).await?.into_split();
        writer.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await?;
        Ok(Self { reader, writer })
    }

    /// The next frame: its kind, its flags, its stream and its payload. `None` when
    /// the other side has closed.
    pub async fn next(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.reader.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.reader.read_exact(&mut payload).await.ok()?;
        Some((kind, flags, u32::from_be_bytes(stream), payload))
    }

    /// Reads on until so many streams have ended well.
    pub async fn until_ended(&mut self, streams: usize) {
        let mut ended = 0;
        while ended < streams {
            let (kind, flags, stream, payload) = self.next().await.expect("the connection is closed");
            assert!(kind != GOAWAY && kind != RST_STREAM, "{kind} on {stream}: {payload:?}");
            ended += usize::from(flags & END_STREAM != 0 && (kind == DATA || kind == HEADERS));
        }
    }

    /// Sends until the other side has had enough: how often it could.
    pub async fn send_all(mut self, mut frames: impl Iterator<Item = Vec<u8>>) -> usize {
        let mut sent = 0;
        let ended = tokio::spawn(async move {
            let mut buffer = vec![0; 64 << 10];
            while matches!(self.reader.read(&mut buffer).await, Ok(1..)) {}
        });
        for frame in &mut frames {
            if ended.is_finished() || self.writer.write_all(&frame).await.is_err() {
                break;
            }
            sent += 1;
        }
        ended.abort();
        sent
    }
}
