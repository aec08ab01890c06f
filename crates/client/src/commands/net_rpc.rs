//! `net-rpc`: Go's net/rpc, with the diagram that gRPC's calls have.

use std::{fmt, process::ExitCode, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use http::Uri;
use net_rpc::{CallError, Client, ClientLimits, ConnectError, Passed};
use serde::{Deserialize, Serialize};
use serde_json::json;
use timeline::{Side, Timeline};
use tokio::time::timeout;

use crate::{
    config::{Config, Target, UNARY_DEADLINE},
    failure::Failure,
    options::Options,
    scenario::Run,
    show,
};

const METHOD: &str = "MathService.Multiply";

/// Call a server of Go's net/rpc
#[derive(Debug, Args)]
pub(crate) struct NetRpc {
    #[command(subcommand)]
    call: Call,
}

#[derive(Debug, Subcommand)]
enum Call {
    Multiply(Multiply),
}

/// Multiply two integers, as Go's tutorials do
#[derive(Debug, Args)]
struct Multiply {
    /// One factor, a signed 64-bit integer
    #[arg(allow_negative_numbers = true)]
    a: i64,
    /// The other factor
    #[arg(allow_negative_numbers = true)]
    b: i64,
    /// Protocol of the connection
    #[arg(long, value_enum, default_value_t = Transport::Tcp)]
    transport: Transport,
    /// Make a second call, B times A, before the first answer. Answers may arrive in another order
    #[arg(long = "async")]
    is_async: bool,
    /// The server: Four Modes or Go
    #[arg(long, default_value = "127.0.0.1:1234", value_name = "HOST:PORT", value_parser = address)]
    address: Uri,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Transport {
    /// gob on the connection: Go's rpc.Dial
    Tcp,
    /// gob after an HTTP CONNECT: Go's rpc.DialHTTP
    Http,
    /// JSON on the connection: Go's jsonrpc.Dial
    Json,
}

fn address(text: &str) -> Result<Uri, String> {
    let uri = format!("tcp://{text}").parse().ok();
    let is_address = |uri: &Uri| uri.port_u16().is_some() && uri.path() == "/" && uri.query().is_none();
    uri.filter(is_address).ok_or_else(|| "write it as 127.0.0.1:1234".to_owned())
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Factors {
    a: i64,
    b: i64,
}

#[derive(Debug, Serialize)]
struct Report {
    transport: Transport,
    products: Vec<Product>,
}

#[derive(Debug, Serialize)]
struct Product {
    a: i64,
    b: i64,
    product: i64,
}

impl NetRpc {
    /// # Errors
    ///
    /// When the options make no sense.
    pub(crate) async fn run(self, options: Options) -> Result<ExitCode, String> {
        let Call::Multiply(multiply) = self.call;
        let mut config = Config::of_calls(options)?.without_frames("net-rpc")?;
        config.servers = vec![Target { uri: multiply.address.clone(), is_name: false }];
        // Only this command knows what a late answer may mean.
        let deadline = config.deadline.take().unwrap_or(UNARY_DEADLINE);
        let run = Run { config: &config, mode: "net-rpc" };
        let timeline = match show::timeline(&config, config.quiet, false) {
            Ok(timeline) => timeline,
            Err(failure) => return Ok(failure.report(&config.tried("net-rpc multiply"))),
        };
        let calls = async |timeline: &Timeline, report: &mut Option<Report>| {
            let calls = multiply.calls(timeline, report);
            timeout(deadline, calls).await.unwrap_or_else(|_| Err(late(deadline)))
        };
        Ok(run.shown("multiply", &timeline, calls).await)
    }
}

impl Multiply {
    async fn calls(&self, timeline: &Timeline, report: &mut Option<Report>) -> Result<(), Failure> {
        let Self { a, b, transport, is_async, ref address } = *self;
        let socket = transport::dial(address).await.map_err(|error| unreachable(&error))?;
        timeline.connected("client", address);
        // The client numbers the calls as they are made.
        let factors = [Factors { a, b }, Factors { a: b, b: a }];
        let drawn = timeline.clone();
        let draw = move |passed: Passed<'_>| draw(&drawn, &factors, passed);
        let client = Client::connect(socket, transport.into(), ClientLimits::default(), draw).await?;
        let report = report.insert(Report { transport, products: Vec::new() });
        let multiply = async |factors: Factors| {
            let product = client.call(METHOD, &factors).await?;
            Ok::<_, Failure>(Product { a: factors.a, b: factors.b, product })
        };
        let [first, second] = factors;
        report.products = match is_async {
            true => {
                let (first, second) = tokio::join!(biased; multiply(first), multiply(second));
                vec![first?, second?]
            }
            false => vec![multiply(first).await?],
        };
        Ok(())
    }
}

fn draw(timeline: &Timeline, arguments: &[Factors], mut passed: Passed<'_>) {
    let Passed { seq, method, error, bytes, .. } = passed;
    let mut fields = json!({ "seq": seq, "bytes": bytes.len() });
    let (from, text) = if passed.received {
        let reply = passed.reply::<i64>();
        fields["value"] = json!(reply);
        let reply = reply.map(|reply| reply.to_string());
        (Side::Server, format!("response {seq}  {}", error.or(reply.as_deref()).unwrap_or("(another type)")))
    } else {
        fields["method"] = method.into();
        let arguments = usize::try_from(seq).ok().and_then(|seq| arguments.get(seq));
        fields["value"] = json!(arguments);
        let arguments = arguments.map(|Factors { a, b }| format!("A: {a}  B: {b}")).unwrap_or_default();
        (Side::Client, format!("request {seq}  {method}  {arguments}"))
    };
    if let Some(error) = error {
        fields["error"] = error.into();
    }
    timeline.exchanged(from, error.is_some(), &format!("{text}  ({} bytes)", bytes.len()), &fields);
}

impl From<Transport> for net_rpc::Transport {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Tcp => Self::Tcp,
            Transport::Http => Self::Http,
            Transport::Json => Self::Json,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> =
            self.products.iter().map(|Product { a, b, product }| format!("{a} × {b} = {product}")).collect();
        f.write_str(&lines.join("\n"))
    }
}

fn unreachable(error: &transport::ConnectError) -> Failure {
    Failure::other(
        "UNAVAILABLE",
        error.to_string(),
        "no net/rpc server is reachable at that address",
        "start one with `fourmodes-server net-rpc`, or name another one with --address",
    )
}

fn late(deadline: Duration) -> Failure {
    Failure::other(
        "DEADLINE_EXCEEDED",
        format!("not done after {}", humantime::format_duration(deadline)),
        "the server is slow, or expects another transport: a gob server takes JSON for the start of a long message",
        "try another --transport, or set a longer --deadline",
    )
}

const OTHER_TRANSPORT: (&str, &str) = (
    "it is not a net/rpc server, or it speaks another transport",
    "try another --transport, or check --address",
);

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let (cause, next) = OTHER_TRANSPORT;
        Self::other("UNAVAILABLE", error.to_string(), cause, next)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let (code, (cause, next)) = match &error {
            CallError::Server(_) => (
                "SERVER_ERROR",
                (
                    "the server rejected the call; net/rpc has no status codes, only this text",
                    "do what it says",
                ),
            ),
            CallError::Connection(_) | CallError::Shutdown => ("UNAVAILABLE", OTHER_TRANSPORT),
            CallError::Reply(_) | CallError::Args(_) => (
                "UNEXPECTED_ANSWER",
                (
                    "it is another method with the same name",
                    "compare its arguments and its reply with the server's",
                ),
            ),
        };
        Self::other(code, error.to_string(), cause, next)
    }
}
