//! JSON-RPC 1.0 over TCP, a line each, as Go's `net/rpc/jsonrpc` has it:
//! `{"method":"MathService.Multiply","params":[{"A":10,"B":20}],"id":1}`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

#[derive(Debug, Deserialize)]
struct Request<'a> {
    method: &'a str,
    #[serde(borrow)]
    params: &'a RawValue,
    id: Value,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
struct Factors {
    a: i64,
    b: i64,
}

#[derive(Debug, Serialize)]
struct Response {
    id: Value,
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
    let (mut line, mut answers) = (String::new(), Vec::new());
    while reader.read_line(&mut line).await? > 0 {
        let response = match serde_json::from_str::<Request<'_>>(&line) {
            Ok(request) => respond(request),
            Err(error) => Response { id: Value::Null, result: None, error: Some(error.to_string()) },
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

fn respond(Request { method, params, id }: Request<'_>) -> Response {
    let product = match method {
        "MathService.Multiply" => multiply(params),
        other => Err(format!("rpc: can't find method {other}")),
    };
    match product {
        Ok(product) => Response { id, result: Some(product), error: None },
        Err(error) => Response { id, result: None, error: Some(error) },
    }
}

fn multiply(params: &RawValue) -> Result<i64, String> {
    let [Factors { a, b }] = serde_json::from_str(params.get()).map_err(|error| error.to_string())?;
    a.checked_mul(b).ok_or_else(|| format!("{a} × {b} does not fit into a signed 64-bit integer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_to(line: &str) -> String {
        serde_json::to_string(&respond(serde_json::from_str(line).unwrap())).unwrap()
    }

    #[test]
    fn what_go_sends_is_answered_as_go_expects() {
        assert_eq!(
            answer_to(r#"{"method":"MathService.Multiply","params":[{"A":10,"B":20}],"id":1}"#),
            r#"{"id":1,"result":200,"error":null}"#
        );
        let unknown = answer_to(r#"{"method":"MathService.Divide","params":[{}],"id":2}"#);
        assert_eq!(unknown, r#"{"id":2,"result":null,"error":"rpc: can't find method MathService.Divide"}"#);
        let overflow =
            r#"{"method":"MathService.Multiply","params":[{"A":9223372036854775807,"B":2}],"id":3}"#;
        assert!(answer_to(overflow).contains("does not fit"));
    }
}
