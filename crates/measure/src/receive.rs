//! A stream from the server: it sends as fast as flow control allows.

use std::time::{Duration, Instant};

use shared_proto::fourmodes::v1::{
    MeasureServerStreamingRequest, measure_service_client::MeasureServiceClient,
};

use crate::{
    line::Line,
    times::Tally,
    work::{Error, Work, all_arrived, next},
};

/// The first call of a stream of which nothing is known yet.
const FIRST: u64 = 100;
/// Less time is not worth another call.
const WORTH_IT: Duration = Duration::from_millis(20);

/// Asks for `messages`, or, where time is what ends it, as often as it takes for
/// as many as will come in the time that is left: a stream that is cancelled
/// would leave it open what has arrived.
pub(crate) async fn server_streaming(
    mut client: MeasureServiceClient<Line>,
    work: Work,
    messages: u64,
) -> Result<Tally, Error> {
    let mut tally = Tally::default();
    let mut rate = work.expected;
    loop {
        let count = match (work.load.time_left(), rate) {
            (None, _) => messages,
            (Some(left), _) if left < WORTH_IT => return Ok(tally),
            (Some(_), None) => FIRST,
            (Some(left), Some(rate)) => ((rate * left.as_secs_f64()) as u64).max(1),
        };
        if count == 0 {
            return Ok(tally);
        }
        let begun = Instant::now();
        receive(&mut client, &work, count, &mut tally).await?;
        rate = Some(count as f64 / begun.elapsed().as_secs_f64());
        if work.load.time_left().is_none() {
            return Ok(tally);
        }
    }
}

async fn receive(
    client: &mut MeasureServiceClient<Line>,
    work: &Work,
    count: u64,
    tally: &mut Tally,
) -> Result<(), Error> {
    let begun = Instant::now();
    let request = MeasureServerStreamingRequest { count, response_bytes: work.size as u32 };
    let mut responses = client.measure_server_streaming(request).await?.into_inner();
    tally.headers.push(begun.elapsed());
    let (mut received, mut told) = (0, 0);
    let mut waiting: Option<Instant> = None;
    let mut waits = 0;
    while let Some(response) =
        next(&mut responses, || waiting = waiting.or_else(|| Some(Instant::now()))).await?
    {
        // The clock is read for those that have to be waited for alone.
        if let Some(since) = waiting.take() {
            work.load.passed(received - told);
            told = received;
            // Of the first one it is no gap.
            if received > 0 {
                work.times.record(since.elapsed());
                waits += 1;
            }
        }
        if received == 0 {
            tally.first.push(begun.elapsed());
        }
        work.check(&response.payload)?;
        received += 1;
    }
    work.load.passed(received - told);
    work.times.record_n(Duration::ZERO, (received - waits).saturating_sub(1));
    tally.messages += received;
    tally.frames += received + 1;
    all_arrived(received, count)
}
