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
        let (work, sending) = (work.clone(), &work.sending);
        match work.pattern {
            Pattern::Unary => drop(tasks.spawn(unary::unary(line.client(), work))),
            Pattern::UnaryInFlight => {
                (0..share).for_each(|_| drop(tasks.spawn(unary::unary(line.client(), work.clone()))));
            }
            Pattern::ClientStreaming | Pattern::Columnar => {
                tasks.spawn(stream::client_streaming(line.streaming(sending), work));
            }
            Pattern::BidiPingPong => {
                tasks.spawn(stream::bidi(line.streaming(sending), work, 1));
            }
            Pattern::BidiPipelined => {
                tasks.spawn(stream::bidi(line.streaming(sending), work, share.max(1) as usize));
            }
            Pattern::ServerStreaming => {
                if work.job.own.is_some() {
                    let messages = self::share(work.load.total(), lines.len(), index);
                    tasks.spawn(receive::as_asked(line.client(), work, messages));
                } else {
                    // With a rate several calls may be due before the first one has ended.
                    let calls = if work.load.is_paced() { share.max(1) } else { 1 };
                    (0..calls).for_each(|_| {
                        drop(tasks.spawn(receive::as_it_comes(line.client(), work.clone())));
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
