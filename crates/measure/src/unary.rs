//! Unary calls, one after the other. Several of these are several in flight.

use shared_proto::fourmodes::v1::{MeasureUnaryRequest, measure_service_client::MeasureServiceClient};

use crate::{
    line::Line,
    times::Tally,
    work::{Error, Work},
};

pub(crate) async fn unary(mut client: MeasureServiceClient<Line>, work: Work) -> Result<Tally, Error> {
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
