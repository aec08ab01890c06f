//! Streams of requests: answered once at the end, or one by one.

use std::{
    collections::VecDeque,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use futures_util::stream;
use grpc_wire::{Mode, Raw};
use tokio::sync::Semaphore;
use tokio_stream::Stream;
use tonic::{Request, client::Grpc};

use crate::{
    line::Line,
    times::Tally,
    work::{Error, Work, next},
};

/// Streams whose messages are answered by one, at the end.
pub(crate) async fn client_streaming(mut client: Grpc<Line>, work: Work) -> Result<Tally, Error> {
    let mut tally = Tally::default();
    // Nothing is called for which there is no message.
    while let Some(due) = work.load.next().await {
        let given = Given::default();
        let requests = match work.load.is_paced() {
            true => when_due(work.clone(), due, given.clone()),
            false => at_once(work.clone(), given.clone()),
        };
        client.ready().await?;
        let mut request = Request::new(requests);
        request.extensions_mut().insert(Mode::ClientStreaming);
        let response = client.client_streaming(request, work.job.path.clone(), Raw).await?;
        let response = response.into_inner();
        // An answer before the end is one of a server that has not read all.
        let Some(&(sent, bytes, ended)) = given.get() else {
            return Err(Error::Answer("the server answered before it had all messages".to_owned()));
        };
        tally.acknowledged.push(ended.elapsed());
        tally.passed(sent, bytes + response.len());
        tally.frames += sent.div_ceil(work.job.batch) + 1;
        work.job.check_collected(response, sent)?;
    }
    Ok(tally)
}

/// A type with a name: of the trait object alone the compiler does not see within
/// tonic's future that it may be sent to another thread.
struct Requests(Pin<Box<dyn Stream<Item = Bytes> + Send>>);

impl Stream for Requests {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.0.as_mut().poll_next(cx)
    }
}

/// How many messages and bytes the source of a stream has given when it has ended, and
/// when that was.
type Given = Arc<OnceLock<(u64, usize, Instant)>>;

/// As fast as they are taken, without a clock and without waiting for anything. The
/// first one is taken from the load already.
fn at_once(work: Work, given: Given) -> Requests {
    let Work { load, job, .. } = work;
    let mut source = job.source();
    let (mut sent, mut bytes, mut taken) = (0, 0, 1);
    Requests(Box::pin(stream::iter(std::iter::from_fn(move || {
        let mut messages = mem::take(&mut taken);
        if job.per_call.is_none_or(|most| sent < most) {
            messages += (messages..job.batch).map_while(|_| load.next_now()).count() as u64;
            if messages == 0 && job.per_call.is_some() {
                // A call is whole, though the time is over.
                load.passed(1);
                messages = 1;
            }
        }
        if messages == 0 {
            let _ = given.set((sent, bytes, Instant::now()));
            return None;
        }
        let message = source(messages);
        sent += messages;
        bytes += message.len();
        Some(message)
    }))))
}

/// Each when it is due, or as soon as it is taken; a batch when its last one is.
fn when_due(work: Work, first: Instant, given: Given) -> Requests {
    let Work { load, job, times, .. } = work;
    let mut source = job.source();
    Requests(Box::pin(async_stream::stream! {
        let (mut sent, mut bytes) = (0, 0);
        let mut due = vec![first];
        while job.per_call.is_none_or(|most| sent < most) {
            while (due.len() as u64) < job.batch && let Some(time) = load.next().await {
                due.push(time);
            }
            let mut messages = due.len() as u64;
            if messages == 0 && job.per_call.is_some() {
                // A call is whole, though the time is over.
                load.passed(1);
                messages = 1;
            } else if messages == 0 {
                break;
            }
            due.drain(..).for_each(|due| times.record(due.elapsed()));
            let message = source(messages);
            sent += messages;
            bytes += message.len();
            yield message;
        }
        let _ = given.set((sent, bytes, Instant::now()));
    }))
}

/// Streams on which each message is answered, with so many unanswered at most.
pub(crate) async fn bidi(mut client: Grpc<Line>, work: Work, in_flight: usize) -> Result<Tally, Error> {
    let mut tally = Tally::default();
    // Nothing is called for which there is no message.
    while let Some(due) = work.load.next().await {
        let unanswered = Arc::new(Unanswered::default());
        let places = Arc::new(Semaphore::new(in_flight));
        let requests = questions(work.clone(), due, places.clone(), unanswered.clone());
        let begun = Instant::now();
        client.ready().await?;
        let responses = client.streaming(Request::new(requests), work.job.path.clone(), Raw).await?;
        let mut responses = responses.into_inner();
        tally.headers.push(begun.elapsed());
        let mut answered = 0;
        // Places are given back many at a time: each would wake the one who sends.
        let mut free = 0;
        while let Some(response) = next(&mut responses, || places.add_permits(mem::take(&mut free))).await? {
            let (due, sent) = unanswered.answered().ok_or_else(|| not_one_each(answered + 1, answered))?;
            work.times.record(due.elapsed());
            if answered == 0 {
                tally.first.push(begun.elapsed());
            }
            tally.passed(1, sent + response.len());
            work.job.check(response)?;
            answered += 1;
            free += 1;
            if free * 2 >= in_flight {
                places.add_permits(mem::take(&mut free));
            }
        }
        tally.frames += 2 * answered;
        if unanswered.count() > 0 {
            return Err(not_one_each(answered, answered + unanswered.count()));
        }
    }
    Ok(tally)
}

fn not_one_each(answers: u64, messages: u64) -> Error {
    Error::Answer(format!("{answers} answers to {messages} messages, and each message has to have one"))
}

/// The messages of a stream on which each is answered. The first one is taken from the
/// load already.
fn questions(work: Work, first: Instant, places: Arc<Semaphore>, unanswered: Arc<Unanswered>) -> Requests {
    let Work { load, job, .. } = work;
    let mut source = job.source();
    Requests(Box::pin(async_stream::stream! {
        let mut first = Some(first);
        let mut sent = 0;
        while job.per_call.is_none_or(|most| sent < most) {
            if first.is_none() && job.per_call.is_none() && load.is_over() {
                // The last answer may come after the end alone.
                break;
            }
            tokio::select! {
                biased;
                // Nobody closes it.
                Ok(place) = places.acquire() => place.forget(),
                // What is not answered by now may never be.
                () = load.ended(), if job.own.is_none() && job.per_call.is_none() => break,
                else => break,
            }
            let due = match first.take() {
                Some(due) => due,
                None => match load.next().await {
                    Some(due) => due,
                    // A call is whole, though the time is over.
                    None if job.per_call.is_some() => {
                        load.passed(1);
                        Instant::now()
                    }
                    None => break,
                },
            };
            let message = source(1);
            sent += 1;
            unanswered.sent(due, message.len());
            yield message;
        }
    }))
}

/// From when messages count that have no answer yet, and their bytes. Answers come in
/// the order of the questions.
#[derive(Default)]
struct Unanswered(Mutex<VecDeque<(Instant, usize)>>);

impl Unanswered {
    fn sent(&self, due: Instant, bytes: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back((due, bytes));
    }

    fn answered(&self) -> Option<(Instant, usize)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn count(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }
}
