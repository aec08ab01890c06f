//! Does the work of a measurement, on all of its connections.

use tokio::task::JoinSet;

use crate::{
    line::Line,
    pattern::Pattern,
    receive, stream,
    times::Tally,
    unary,
    work::{Error, Work},
};

/// Does all of it.
///
/// # Errors
///
/// The first one of any call: then nothing is known of the others.
pub(crate) async fn run(work: &Work, lines: &[Line]) -> Result<Tally, Error> {
    let mut tasks = JoinSet::new();
    for (index, line) in lines.iter().enumerate() {
        let share = share(work.in_flight as u64, lines.len(), index);
        let (work, sending, thread) = (work.clone(), &work.sending, &line.thread);
        match work.pattern {
            Pattern::Unary => drop(tasks.spawn_on(unary::unary(line.clone(), work), thread)),
            Pattern::UnaryInFlight => (0..share).for_each(|_| {
                tasks.spawn_on(unary::unary(line.clone(), work.clone()), thread);
            }),
            Pattern::ClientStreaming | Pattern::Columnar => {
                tasks.spawn_on(stream::client_streaming(line.streaming(sending), work), thread);
            }
            Pattern::BidiPingPong => {
                tasks.spawn_on(stream::bidi(line.streaming(sending), work, 1), thread);
            }
            Pattern::BidiPipelined => {
                let in_flight = share.max(1) as usize;
                tasks.spawn_on(stream::bidi(line.streaming(sending), work, in_flight), thread);
            }
            Pattern::ServerStreaming => {
                if work.job.own.is_some() {
                    let messages = self::share(work.load.total(), lines.len(), index);
                    tasks.spawn_on(receive::as_asked(line.client(), work, messages), thread);
                } else {
                    // With a rate several calls may be due before the first one has ended.
                    let calls = if work.load.is_paced() { share.max(1) } else { 1 };
                    (0..calls).for_each(|_| {
                        tasks.spawn_on(receive::as_it_comes(line.client(), work.clone()), thread);
                    });
                }
            }
        }
    }
    let mut tally = Tally::default();
    while let Some(ended) = tasks.join_next().await {
        tally.add(ended??);
    }
    Ok(tally)
}

/// As even as it gets.
fn share(all: u64, of: usize, index: usize) -> u64 {
    all / of as u64 + u64::from((index as u64) < all % of as u64)
}
