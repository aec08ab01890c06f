//! Client streaming: many requests, one response.

use std::time::SystemTime;

use shared_proto::{
    bytestream::{QueryWriteStatusRequest, WriteRequest, byte_stream_client::ByteStreamClient},
    fourmodes::v1::{
        Reading, RecordReadingsRequest, client_streaming_service_client::ClientStreamingServiceClient,
    },
};
use tonic::Code;
use uuid::Uuid;

use super::{
    content::{self, content},
    step::Step,
};
use crate::{
    failure::Failure,
    scenarios::client_streaming::{readings::answer::Answer, upload::upload_name},
    session::Session,
};

pub(super) async fn demonstrate(session: &Session, steps: &mut Vec<Step>) -> Result<(), Failure> {
    session.note(
        "CLIENT STREAMING: many requests, one response. The client sends at its own pace and ends with a \
         half-close. Then the server answers once. Each batch has a number: the batch that is sent twice \
         here counts once.",
    );
    let producer_id = Uuid::new_v4().to_string();
    // Devices that nobody has: the statistics of those that are real stay as they are.
    let batches = [
        ("demonstration-kitchen", 1, 21.5),
        ("demonstration-cellar", 1, 12.0),
        ("demonstration-kitchen", 2, 21.9),
        ("demonstration-kitchen", 2, 21.9),
        ("demonstration-cellar", 2, 12.4),
        ("demonstration-kitchen", 3, f64::NAN),
    ];
    let requests =
        batches.into_iter().zip(1..).map(|((device, sequence, value), line)| RecordReadingsRequest {
            producer_id: producer_id.clone(),
            device: device.to_owned(),
            sequence,
            readings: vec![Reading { time: Some(SystemTime::now().into()), value, line }],
        });
    let mut client = ClientStreamingServiceClient::new(session.channel());
    let requests = session.request(tokio_stream::iter(requests.collect::<Vec<_>>()), None);
    let mut answer = Answer::default();
    answer.add(client.record_readings(requests).await?.into_inner());
    steps.push(Step::new(
        "readings",
        format!(
            "{} readings of {} devices, {} known before, {} rejected with its reason",
            answer.count,
            answer.devices.len(),
            answer.repeated_count,
            answer.refused_count
        ),
    ));
    upload(session, steps).await
}

async fn upload(session: &Session, steps: &mut Vec<Step>) -> Result<(), Failure> {
    const CHUNK: usize = 1 << 10;
    session.note(
        "An upload is a stream too, but its end commits nothing, because a cancelled upload ends in the same \
         way. So the last message sets finish_write. The server answers when size and checksum are right and \
         the content is on disk. A client that resumes asks the server for the offset.",
    );
    let (content, hash) = content();
    let size = content.len() as u64;
    let name = upload_name(&hash, size, None);
    for time in ["first", "second"] {
        let mut client = ByteStreamClient::new(session.channel());
        let query = QueryWriteStatusRequest { resource_name: name.clone() };
        let complete = match client.query_write_status(session.request(query, None)).await {
            Ok(status) => status.into_inner().complete,
            Err(status) if status.code() == Code::NotFound => false,
            Err(status) => return Err(status.into()),
        };
        if complete {
            steps.push(Step::new(
                "upload",
                format!("the {time} time, the server already has all {size} bytes"),
            ));
            continue;
        }
        let offsets = (0..content.len()).step_by(CHUNK);
        let requests = offsets.map(|offset| WriteRequest {
            resource_name: if offset == 0 { name.clone() } else { String::new() },
            write_offset: offset as i64,
            finish_write: offset + CHUNK >= content.len(),
            data: content.slice(offset..content.len().min(offset + CHUNK)),
        });
        let requests = tokio_stream::iter(requests.collect::<Vec<_>>());
        let response = client.write(session.request(requests, None)).await?.into_inner();
        if u64::try_from(response.committed_size) != Ok(size) {
            return Err(Failure::answer(format!("{} of {size} bytes committed", response.committed_size)));
        }
        steps.push(Step::new("upload", format!("the {time} time, {size} bytes in messages of {CHUNK}")));
    }
    content::remove(session).await
}
