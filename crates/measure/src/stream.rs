//! Streams of requests: answered once at the end, or one by one.

use std::{
    collections::VecDeque,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll},
    time::Instant,
};

use shared_proto::fourmodes::v1::{
    MeasureBidiStreamingRequest, MeasureClientStreamingRequest, MeasureClientStreamingResponse,
    measure_service_client::MeasureServiceClient,
};
use tokio::sync::Semaphore;
use tokio_stream::Stream;

use crate::{
    line::Line,
    load::Load,
    pattern::{batch, values},
    times::Tally,
    work::{Error, Work, all_arrived, next},
};

type Client = MeasureServiceClient<Line>;

pub(crate) async fn client_streaming(client: Client, work: Work) -> Result<Tally, Error> {
    let request = MeasureClientStreamingRequest { payload: work.exchange().0, values: Vec::new() };
    let size = work.size;
    let (requests, given) = requests(work, 1, move |_| request.clone());
    let (response, tally) = collected(client, requests, given, 1).await?;
    all_arrived(response.messages, tally.messages)?;
    all_arrived(response.bytes, tally.messages * size)?;
    Ok(tally)
}

/// The bytes of a message as numbers of 64 bits, and those of many messages in one.
pub(crate) async fn columnar(client: Client, work: Work) -> Result<Tally, Error> {
    let (each, batch) = (values(work.size), batch(work.size));
    let all = vec![0x5a5a_5a5a_5a5a_5a5a; (each * batch) as usize];
    let (requests, given) = requests(work, batch, move |messages| MeasureClientStreamingRequest {
        values: all[..(each * messages) as usize].to_vec(),
        ..Default::default()
    });
    let (response, tally) = collected(client, requests, given, batch).await?;
    all_arrived(response.values, tally.messages * each)?;
    Ok(tally)
}

/// A type with a name: of the trait object alone the compiler does not see within
/// tonic's future that it may be sent to another thread.
struct Requests(Pin<Box<dyn Stream<Item = MeasureClientStreamingRequest> + Send>>);

impl Stream for Requests {
    type Item = MeasureClientStreamingRequest;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

/// What the source of a stream has given when it has ended, and when that was.
type Given = Arc<OnceLock<(u64, Instant)>>;

/// A stream whose messages are answered by one, at the end.
async fn collected(
    mut client: Client,
    requests: Requests,
    given: Given,
    batch: u64,
) -> Result<(MeasureClientStreamingResponse, Tally), Error> {
    let response = client.measure_client_streaming(requests).await?.into_inner();
    // An answer before the end is one of a server that has not read all.
    let Some((sent, ended)) = given.get() else {
        return Err(Error::Answer("the server answered before it had all messages".to_owned()));
    };
    let tally = Tally {
        messages: *sent,
        frames: sent.div_ceil(batch) + 1,
        acknowledged: vec![ended.elapsed()],
        ..Tally::default()
    };
    Ok((response, tally))
}

/// So many messages in each request as `batch` says, or fewer in the last one.
fn requests(
    work: Work,
    batch: u64,
    pack: impl Fn(u64) -> MeasureClientStreamingRequest + Send + Sync + 'static,
) -> (Requests, Given) {
    let given = Given::default();
    let requests = match work.load.is_paced() {
        true => when_due(work, batch, pack, given.clone()),
        false => at_once(work.load, batch, pack, given.clone()),
    };
    (requests, given)
}

/// As fast as they are taken, without a clock and without waiting for anything.
fn at_once(
    load: Arc<Load>,
    batch: u64,
    pack: impl Fn(u64) -> MeasureClientStreamingRequest + Send + 'static,
    given: Given,
) -> Requests {
    let mut sent = 0;
    Requests(Box::pin(tokio_stream::iter(std::iter::from_fn(move || {
        let messages = (0..batch).map_while(|_| load.next_now()).count() as u64;
        sent += messages;
        if messages == 0 {
            let _ = given.set((sent, Instant::now()));
            return None;
        }
        Some(pack(messages))
    }))))
}

/// Each when it is due, or as soon as it is taken; a batch when its last one is.
fn when_due(
    work: Work,
    batch: u64,
    pack: impl Fn(u64) -> MeasureClientStreamingRequest + Send + Sync + 'static,
    given: Given,
) -> Requests {
    Requests(Box::pin(async_stream::stream! {
        let mut sent = 0;
        let mut due = Vec::new();
        loop {
            while (due.len() as u64) < batch && let Some(time) = work.load.next().await {
                due.push(time);
            }
            if due.is_empty() {
                break;
            }
            let messages = due.len() as u64;
            due.drain(..).for_each(|due| work.times.record(due.elapsed()));
            sent += messages;
            yield pack(messages);
        }
        let _ = given.set((sent, Instant::now()));
    }))
}

/// A stream on which each message is answered, with so many unanswered at most.
pub(crate) async fn bidi(mut client: Client, work: Work, in_flight: usize) -> Result<Tally, Error> {
    let (payload, response_bytes) = work.exchange();
    let request = MeasureBidiStreamingRequest { payload, response_bytes };
    let places = Arc::new(Semaphore::new(in_flight));
    let unanswered = Arc::new(Unanswered::default());
    let requests = {
        let (load, places, unanswered) = (work.load.clone(), places.clone(), unanswered.clone());
        async_stream::stream! {
            // Nobody closes it.
            while let Ok(place) = places.acquire().await {
                place.forget();
                let Some(due) = load.next().await else { break };
                unanswered.sent(due);
                yield request.clone();
            }
        }
    };
    let begun = Instant::now();
    let mut responses = client.measure_bidi_streaming(requests).await?.into_inner();
    let mut tally = Tally { headers: vec![begun.elapsed()], ..Tally::default() };
    // Places are given back many at a time: each would wake the one who sends.
    let mut free = 0;
    while let Some(response) = next(&mut responses, || places.add_permits(mem::take(&mut free))).await? {
        let due =
            unanswered.answered().ok_or_else(|| Error::Answer("more answers than questions".to_owned()))?;
        work.times.record(due.elapsed());
        if tally.messages == 0 {
            tally.first.push(begun.elapsed());
        }
        work.check(&response.payload)?;
        tally.messages += 1;
        free += 1;
        if free * 2 >= in_flight {
            places.add_permits(mem::take(&mut free));
        }
    }
    tally.frames = 2 * tally.messages;
    all_arrived(tally.messages, tally.messages + unanswered.count())?;
    Ok(tally)
}

/// From when messages count that have no answer yet. Answers come in the order
/// of the questions.
#[derive(Default)]
struct Unanswered(Mutex<VecDeque<Instant>>);

impl Unanswered {
    fn sent(&self, due: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(due);
    }

    fn answered(&self) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn count(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }
}
