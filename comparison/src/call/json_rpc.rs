//! JSON-RPC 1.0 over TCP.

use std::net::SocketAddr;

use anyhow::ensure;
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use super::Done;
use crate::work::Work;

#[derive(Deserialize)]
struct Response {
    id: u64,
    result: Option<i64>,
}

/// Any number of questions may be on their way on one connection: each answer
/// has its id.
pub(super) async fn go_on(address: SocketAddr, work: Work, done: Done) -> anyhow::Result<()> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let (reader, mut writer) = socket.into_split();
    let mut reader = BufReader::new(reader);
    let (_, in_flight) = work.in_flight();
    let (mut next, mut line) = (0, String::new());
    let mut questions = questions(&mut next, in_flight);
    loop {
        writer.write_all(questions.as_bytes()).await?;
        // As many new ones as were answered together.
        let mut answered = 0;
        while answered == 0 || reader.buffer().contains(&b'\n') {
            line.clear();
            reader.read_line(&mut line).await?;
            let response: Response = serde_json::from_str(&line)?;
            ensure!(response.id < next && response.result == Some(42), "answered {line}");
            answered += 1;
        }
        done.more(answered as u64);
        questions = self::questions(&mut next, answered);
    }
}

fn questions(next: &mut u64, count: usize) -> String {
    let mut questions = String::new();
    for id in *next..*next + count as u64 {
        questions += &format!(
            "{{\"method\":\"MathService.Multiply\",\"params\":[{{\"A\":6,\"B\":7}}],\"id\":{id}}}\n"
        );
    }
    *next += count as u64;
    questions
}
