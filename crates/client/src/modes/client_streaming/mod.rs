//! Client streaming: many requests, one response.

pub(crate) mod readings;
pub(crate) mod upload;

use shared_proto::fourmodes::v1::{
    Reading, RecordReadingsRequest, client_streaming_service_client::ClientStreamingServiceClient,
};
use uuid::Uuid;

use self::readings::Answer;
use super::tour::Step;
use crate::{failure::Failure, session::Session};

pub(crate) async fn demonstrate(session: &Session, steps: &mut Vec<Step>) -> Result<(), Failure> {
    session.note(
        "CLIENT STREAMING: many requests, one response. The client sends at its own pace and says with \
         its half-close that this was all; only then does the server answer, once. Each batch has a \
         number: the one that comes twice here counts once.",
    );
    let producer_id = Uuid::new_v4().to_string();
    let batches = [
        ("kitchen", 1, 21.5),
        ("cellar", 1, 12.0),
        ("kitchen", 2, 21.9),
        ("kitchen", 2, 21.9),
        ("cellar", 2, 12.4),
        ("kitchen", 3, f64::NAN),
    ];
    let requests =
        batches.into_iter().zip(1..).map(|((device, sequence, value), line)| RecordReadingsRequest {
            producer_id: producer_id.clone(),
            device: device.to_owned(),
            sequence,
            readings: vec![Reading { time: Some(std::time::SystemTime::now().into()), value, line }],
        });
    let mut client = ClientStreamingServiceClient::new(session.channel());
    let requests = session.request(tokio_stream::iter(requests.collect::<Vec<_>>()));
    let mut answer = Answer::default();
    answer.add(client.record_readings(requests).await?.into_inner());
    steps.push(Step::new(
        "readings",
        format!(
            "{} readings of {} devices, {} known before, {} refused with its reason",
            answer.count,
            answer.devices.len(),
            answer.repeated_count,
            answer.refused_count
        ),
    ));
    upload::demonstrate(session, steps).await
}
