//! Unary calls, one after the other. Several of these are several in flight.

use shared_proto::fourmodes::v1::{MeasureUnaryRequest, measure_service_client::MeasureServiceClient};

use super::Work;
use crate::{
    bench::{line::Line, measure::Tally},
    failure::Failure,
};

pub(super) async fn unary(mut client: MeasureServiceClient<Line>, work: Work) -> Result<Tally, Failure> {
    let (payload, response_bytes) = work.exchange();
    let request = MeasureUnaryRequest { payload, response_bytes };
    let mut tally = Tally::default();
    while let Some(due) = work.load.next().await {
        let response = client.measure_unary(request.clone()).await?;
        work.times.record(due.elapsed());
        work.check(&response.get_ref().payload)?;
        tally.messages += 1;
        tally.frames += 2;
    }
    Ok(tally)
}
