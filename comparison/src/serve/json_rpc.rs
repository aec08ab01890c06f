//! JSON-RPC 1.0 over TCP, a line each, as Go's `net/rpc/jsonrpc` has it:
//! `{"method":"MathService.Multiply","params":[{"A":10,"B":20}],"id":1}`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

/// What is missing is empty, as it is to Go.
#[derive(Debug, Deserialize)]
struct Request<'a> {
    #[serde(borrow, default)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    /// Any value: it comes back as it was written.
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
struct Factors {
    a: i64,
    b: i64,
}

#[derive(Debug, Serialize)]
struct Response<'a> {
    id: Option<&'a RawValue>,
    result: Option<i64>,
    error: Option<String>,
}

pub(super) async fn serve(listener: TcpListener) -> anyhow::Result<()> {
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(answer(socket));
    }
}

async fn answer(socket: TcpStream) -> std::io::Result<()> {
    let (reader, mut writer) = socket.into_split();
    let mut reader = BufReader::new(reader);
    let (mut line, mut answers) = (Vec::new(), Vec::new());
    while reader.read_until(b'\n', &mut line).await? > 0 {
        let response = match serde_json::from_slice::<Request<'_>>(&line) {
            Ok(request) => respond(&request),
            // Go hangs up; after the end of the line the next request is as good.
            Err(error) => Response { id: None, result: None, error: Some(error.to_string()) },
        };
        serde_json::to_writer(&mut answers, &response)?;
        answers.push(b'\n');
        line.clear();
        // What was asked together is answered together.
        if !reader.buffer().contains(&b'\n') {
            writer.write_all(&answers).await?;
            answers.clear();
        }
    }
    Ok(())
}

fn respond<'a>(request: &Request<'a>) -> Response<'a> {
    let product = match (&*request.method, request.params) {
        ("MathService.Multiply", Some(params)) => multiply(params),
        ("MathService.Multiply", None) => Err("jsonrpc: request body missing params".to_owned()),
        (other, _) => Err(format!("rpc: can't find method {other}")),
    };
    match product {
        Ok(product) => Response { id: request.id, result: Some(product), error: None },
        Err(error) => Response { id: request.id, result: None, error: Some(error) },
    }
}

fn multiply(params: &RawValue) -> Result<i64, String> {
    let [Factors { a, b }] = serde_json::from_str(params.get()).map_err(|error| error.to_string())?;
    a.checked_mul(b).ok_or_else(|| format!("{a} × {b} does not fit into a signed 64-bit integer"))
}
