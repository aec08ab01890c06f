//! Server streaming: one request, many responses.

use std::time::{Duration, Instant};

use shared_proto::{
    bytestream::ReadResponse,
    fourmodes::v1::{
        GetStatusRequest, Mode, WatchQuotesRequest,
        server_streaming_service_client::ServerStreamingServiceClient,
    },
    limits::MONITORING_HEARTBEAT,
};
use timeline::words::counted;
use tonic::Code;

use super::{
    content::{self, content},
    step::{Step, expect_code, run},
};
use crate::{
    failure::Failure,
    scenarios::{
        options::{Count, Interval},
        server_streaming::{
            download::content::{Content, read},
            quotes::{Delivery, Quotes},
            system::System,
            task::Task,
        },
        unary::submit::{Submit, Work},
    },
    session::Session,
};

pub(super) async fn demonstrate(session: &Session, steps: &mut Vec<Step>) -> Result<(), Failure> {
    session.note(
        "SERVER STREAMING: one request, many responses. The client half-closes after its request. The server \
         pushes each quote as it is made. Its trailers end the call.",
    );
    let mut quotes = Quotes {
        symbols: Vec::new(),
        count: Count { count: 5 },
        interval: Interval { interval: Duration::from_millis(100) },
        from_sequence: None,
        delivery: Delivery::Every,
    };
    let report = run(session, &quotes).await?;
    steps.push(Step::new("quotes", format!("{} quotes, {} gaps", report.count, report.gaps)));
    cancel(session, steps).await?;

    session.note("The server rejects an unknown symbol before the first message.");
    quotes.symbols = vec!["NOPE".to_owned()];
    let unknown = run(session, &quotes).await;
    steps.push(expect_code("quotes", unknown, Code::InvalidArgument, "an unknown symbol")?);

    session.note("The load of the server's machine. The server takes each sample when it sends it.");
    let interval = Interval { interval: Duration::from_millis(500) };
    let report = run(session, &System { interval, count: Count { count: 2 } }).await?;
    steps.push(Step::new("system", format!("{} samples of the server's load", report.count)));
    download(session, steps).await?;
    task(session, steps).await
}

async fn cancel(session: &Session, steps: &mut Vec<Step>) -> Result<(), Failure> {
    const ENOUGH: u32 = 1000;
    session.note(
        "The client may stop at any time, here after 1,000 quotes of an endless stream. It cancels, and \
         discards the messages on their way. The server may have made thousands more before the cancel \
         arrives. Then it ends the call.",
    );
    let before = open_calls(session).await?;
    let mut client = ServerStreamingServiceClient::new(session.channel());
    let endless = WatchQuotesRequest { symbols: vec!["ACME".to_owned()], ..WatchQuotesRequest::default() };
    let endless = session.request(endless, Some(MONITORING_HEARTBEAT));
    let mut quotes = client.watch_quotes(endless).await?.into_inner();
    let mut seen = 0;
    while seen < ENOUGH && quotes.message().await?.is_some() {
        seen += 1;
    }
    drop(quotes);
    let mut shown = format!("an endless stream, cancelled after {seen} quotes");
    if let Some(before) = before {
        shown += &match until_ended(session, before).await? {
            Some(time) => format!("; {} ms later the server has ended the call", time.as_millis()),
            None => "; whether the server has ended the call is unknown, because other clients call too"
                .to_owned(),
        };
    }
    steps.push(Step::new("quotes", shown));
    Ok(())
}

/// How long it takes until the server has no more calls open than before.
async fn until_ended(session: &Session, before: u64) -> Result<Option<Duration>, Failure> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let begun = Instant::now();
    let mut pause = Duration::from_millis(10);
    while begun.elapsed() < PATIENCE {
        if open_calls(session).await?.is_none_or(|open| open <= before) {
            return Ok(Some(begun.elapsed()));
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    Ok(None)
}

/// How many calls of this mode the server of the streams has, if it says so: that
/// is a call of the unary mode.
async fn open_calls(session: &Session) -> Result<Option<u64>, Failure> {
    let asked = session
        .unary_at_home(GetStatusRequest {}, async |mut client, request| client.get_status(request).await);
    let status = match asked.await {
        Err(failure) if failure.is_status(Code::Unimplemented) => return Ok(None),
        status => status?,
    };
    let mode = status.modes.iter().find(|mode| mode.mode() == Mode::ServerStreaming);
    Ok(mode.map(|mode| mode.calls_open))
}

async fn download(session: &Session, steps: &mut Vec<Step>) -> Result<(), Failure> {
    session.note(
        "Flow control pulls a download: the server reads from its disk only what the client can take. The \
         headers name the content, so that a client can resume the same content. The demonstration uploads \
         it first.",
    );
    content::upload(session).await?;
    let (bytes, hash) = content();
    let wanted = Content { hash, size: bytes.len() as u64 };
    let (content, mut chunks) = match read(session, &wanted.to_string(), 0).await {
        Ok(read) => read,
        Err(failure) => {
            let what = "content that nobody has uploaded yet";
            steps.push(expect_code("download", Err::<(), _>(failure), Code::NotFound, what)?);
            return Ok(());
        }
    };
    let mut hasher = blake3::Hasher::new();
    while let Some(ReadResponse { data }) = chunks.message().await? {
        hasher.update(&data);
    }
    if (hasher.finalize(), hasher.count()) != (content.hash, content.size) {
        return Err(Failure::damaged("what has arrived does not have its checksum"));
    }
    steps.push(Step::new("download", format!("{} bytes that have their checksum", content.size)));
    content::remove(session).await
}

async fn task(session: &Session, steps: &mut Vec<Step>) -> Result<(), Failure> {
    session.note(
        "Long work takes two calls: a unary call submits it and ends at once, and a stream follows its \
         progress. If the stream breaks, the work continues, and the client opens a new stream.",
    );
    let submit = Submit { work: Work::Primes { below: 20_000_000 }, request_id: None };
    let submitted = match run(session, &submit).await {
        Err(failure) if failure.is_status(Code::Unimplemented) => {
            session.note("This server accepts no tasks, because it does not serve the unary mode.");
            return Ok(());
        }
        submitted => submitted?.task.unwrap_or_default(),
    };
    let report = run(session, &Task { id: submitted.uuid()? }).await?;
    steps.push(Step::new(
        "task",
        format!("a task {} after {}", report.task.state, counted(report.updates, "update")),
    ));
    Ok(())
}
