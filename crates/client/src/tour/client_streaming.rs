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
        "CLIENT STREAMING: many requests, one response. The client sends at its own pace and says with \
         its half-close that this was all; only then does the server answer, once. Each batch has a \
         number: the one that comes twice here counts once.",
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
            "{} readings of {} devices, {} known before, {} refused with its reason",
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
        "An upload is a stream, too, but its end means nothing: a client that cancels ends in the same way. \
         So the last message says finish_write, and the answer comes when size and checksum are right and \
         the content is on disk. The server says where to begin; what it has already it does not want again.",
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
                format!("the {time} time the server has all {size} bytes already"),
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
        steps.push(Step::new("upload", format!("the {time} time {size} bytes, in messages of {CHUNK}")));
    }
    content::remove(session).await
}
