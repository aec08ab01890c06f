//! Unary calls, one after the other. Several of these are several in flight.

use grpc_wire::Raw;
use tonic::{Request, client::Grpc};

use crate::{
    line::Line,
    times::Tally,
    work::{Error, Work},
};

pub(crate) async fn unary(mut client: Grpc<Line>, work: Work) -> Result<Tally, Error> {
    let mut source = work.job.source();
    let mut tally = Tally::default();
    while let Some(due) = work.load.next().await {
        let message = source(1);
        let sent = message.len();
        client.ready().await?;
        let response = client.unary(Request::new(message), work.job.path.clone(), Raw).await?.into_inner();
        work.times.record(due.elapsed());
        tally.passed(1, sent + response.len());
        tally.frames += 2;
        work.job.check(response)?;
    }
    Ok(tally)
}
