//! Measures streams from the server.

use std::{
    future::pending,
    time::{Duration, Instant},
};

use bytes::Bytes;
use grpc_wire::Raw;
use tonic::{Request, client::Grpc};

use crate::{
    line::Line,
    times::Tally,
    work::{Error, Work, all_arrived, next},
};

/// The size of the first call, when the rate is not known yet.
const FIRST: u64 = 100;
/// With less time left, another call is not worth it.
const WORTH_IT: Duration = Duration::from_millis(20);

/// Requests `messages` from our own service. If there is a time limit, it makes as many
/// calls as needed, each for the number of messages expected in the time left. A
/// cancelled stream would leave open how many messages have arrived.
pub(crate) async fn as_asked(mut client: Grpc<Line>, work: Work, messages: u64) -> Result<Tally, Error> {
    let mut tally = Tally::default();
    let mut rate = work.expected;
    loop {
        let count = match (work.load.time_left(), rate) {
            (None, _) => messages,
            (Some(left), _) if left < WORTH_IT => return Ok(tally),
            (Some(_), None) => FIRST,
            (Some(left), Some(rate)) => ((rate * left.as_secs_f64()) as u64).max(1),
        };
        let Some(own) = work.job.own.filter(|_| count > 0) else { return Ok(tally) };
        let begun = Instant::now();
        let received = receive(&mut client, &work, own.ask_for(count), begun, &mut tally).await?;
        all_arrived(received, count)?;
        rate = Some(count as f64 / begun.elapsed().as_secs_f64());
        if work.load.time_left().is_none() {
            return Ok(tally);
        }
    }
}

/// Calls a method of any service, again and again. With a rate, each call is due at its
/// time, and the server ends it. Without one, messages are counted until there are
/// enough, or until the time is over and at least one has arrived.
pub(crate) async fn as_it_comes(mut client: Grpc<Line>, work: Work) -> Result<Tally, Error> {
    let mut source = work.job.source();
    let mut tally = Tally::default();
    loop {
        let due = match work.load.is_paced() {
            true => work.load.next().await,
            false => (!work.load.is_over() || is_first(&work, &tally)).then(Instant::now),
        };
        let Some(due) = due else { return Ok(tally) };
        let received = receive(&mut client, &work, source(1), due, &mut tally).await?;
        if work.load.is_paced() {
            work.times.record(due.elapsed());
        } else if received == 0 && (!work.load.is_over() || is_first(&work, &tally)) {
            return Err(Error::Answer("the server has ended a call without a message".to_owned()));
        }
    }
}

/// Whether no message has arrived yet and a time limit could end the wait.
fn is_first(work: &Work, tally: &Tally) -> bool {
    tally.messages == 0 && work.load.time_left().is_some() && !work.load.is_paced()
}

/// Makes one call, and returns how many messages it brought.
async fn receive(
    client: &mut Grpc<Line>,
    work: &Work,
    request: Bytes,
    begun: Instant,
    tally: &mut Tally,
) -> Result<u64, Error> {
    let (is_own, is_paced) = (work.job.own.is_some(), work.load.is_paced());
    client.ready().await?;
    let call = client.server_streaming(Request::new(request), work.job.path.clone(), Raw);
    let ended = async {
        // Our own server ends the stream after the number requested.
        if is_own { pending().await } else { work.load.ended().await }
    };
    tokio::pin!(ended);
    let mut responses = tokio::select! {
        biased;
        responses = call => responses?.into_inner(),
        () = &mut ended, if !is_first(work, tally) => return Ok(0),
    };
    tally.headers.push(begun.elapsed());
    let (mut received, mut told) = (0, 0);
    let mut waiting: Option<Instant> = None;
    let mut waits = 0;
    loop {
        let response = tokio::select! {
            biased;
            response = next(&mut responses, || waiting = waiting.or_else(|| Some(Instant::now()))) => response?,
            () = &mut ended, if !is_first(work, tally) => break,
        };
        let Some(response) = response else { break };
        if !is_own && !is_paced && work.load.next_now().is_none() && !is_first(work, tally) {
            break;
        }
        // The clock is read only when the next message has to be waited for.
        if let Some(since) = waiting.take() {
            if is_own {
                work.load.passed(received - told);
                told = received;
            }
            // The time before the first message is not a gap. With a rate, the times
            // are those of calls.
            if received > 0 && !is_paced {
                work.times.record(since.elapsed());
                waits += 1;
            }
        }
        if received == 0 {
            tally.first.push(begun.elapsed());
        }
        tally.passed(1, response.len());
        work.job.check(response)?;
        received += 1;
        if !is_own && !is_paced && work.load.is_over() {
            break;
        }
    }
    if is_own {
        work.load.passed(received - told);
    }
    if !is_paced {
        work.times.record_n(Duration::ZERO, (received - waits).saturating_sub(1));
    }
    tally.frames += received + 1;
    Ok(received)
}
