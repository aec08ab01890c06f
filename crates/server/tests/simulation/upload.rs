//! Files that are uploaded, one after the other, and read again.

use std::{cell::RefCell, pin::pin, rc::Rc};

use anyhow::{Result, ensure};
use shared_proto::bytestream::{
    QueryWriteStatusRequest, ReadRequest, WriteRequest, byte_stream_client::ByteStreamClient,
};
use tokio_stream::Stream;
use tonic::{Code, Status, transport::Channel};
use turmoil::Sim;

use crate::{
    Story,
    network::{connect, may_happen, pause},
    tell,
};

const NAME: &str = "fay";
const FILES: usize = 12;
const CHUNK: usize = 4 << 10;

pub(crate) struct Upload {
    committed: Rc<RefCell<Vec<Content>>>,
}

#[derive(Clone)]
struct Content {
    name: String,
    bytes: Vec<u8>,
    /// The most that the server has said it has on its disk.
    known: i64,
}

impl Upload {
    pub(crate) fn start(sim: &mut Sim<'_>, clients: &mut Vec<&'static str>, story: &Story) -> Self {
        clients.push(NAME);
        let (committed, story) = (Rc::<RefCell<Vec<_>>>::default(), story.clone());
        let own = committed.clone();
        sim.client(NAME, async move {
            for number in 0..FILES {
                let mut content = Content::new(number);
                loop {
                    match content.attempt().await? {
                        Ok(true) => break,
                        Ok(false) => {}
                        Err(status) => {
                            tell(&story, format!("{NAME}: {:?} after {}", status.code(), content.known));
                            may_happen(&status)?;
                        }
                    }
                    pause(500).await;
                }
                tell(&story, format!("{NAME} has uploaded {}", content.name));
                own.borrow_mut().push(content);
            }
            Ok(())
        });
        Self { committed }
    }

    pub(crate) async fn judge(&self) -> Result<()> {
        let committed = self.committed.take();
        ensure!(committed.len() == FILES);
        for content in committed {
            loop {
                match content.read().await {
                    Ok(Some(bytes)) => {
                        let (length, expected) = (bytes.len(), content.bytes.len());
                        ensure!(length == expected, "{}: {length} of {expected} bytes", content.name);
                        let wrong = bytes.iter().zip(&content.bytes).position(|(one, other)| one != other);
                        ensure!(wrong.is_none(), "{}: the byte at {wrong:?} is another one", content.name);
                        break;
                    }
                    Ok(None) => {}
                    Err(status) => may_happen(&status)?,
                }
                pause(500).await;
            }
        }
        Ok(())
    }
}

impl Content {
    fn new(number: usize) -> Self {
        let bytes = (0..fastrand::usize(..300_000)).map(|_| fastrand::u8(..)).collect();
        Self { name: format!("{number}.bin"), bytes, known: 0 }
    }

    fn resource_name(&self) -> String {
        let hash = blake3::hash(&self.bytes);
        let id = uuid::Builder::from_random_bytes(hash.as_bytes()[..16].try_into().unwrap_or_default());
        format!("uploads/{}/blobs/{hash}/{}/{}", id.into_uuid(), self.bytes.len(), self.name)
    }

    /// How much the server says that it has: `None` when that is all.
    async fn committed(
        &mut self,
        client: &mut ByteStreamClient<Channel>,
    ) -> Result<Result<Option<i64>, Status>> {
        let query = QueryWriteStatusRequest { resource_name: self.resource_name() };
        let committed = match client.query_write_status(query).await.map(tonic::Response::into_inner) {
            Ok(status) if status.complete => return Ok(Ok(None)),
            Ok(status) => status.committed_size,
            Err(status) if status.code() == Code::NotFound => 0,
            Err(status) => return Ok(Err(status)),
        };
        ensure!(committed >= self.known, "{committed} bytes are there, and {} were committed", self.known);
        self.known = committed;
        Ok(Ok(Some(committed)))
    }

    /// True when all of it is there.
    async fn attempt(&mut self) -> Result<Result<bool, Status>> {
        let Some(channel) = connect().await else { return Ok(Ok(false)) };
        let mut client = ByteStreamClient::new(channel.clone());
        let committed = match self.committed(&mut client).await? {
            Ok(Some(committed)) => committed,
            Ok(None) => return Ok(Ok(true)),
            Err(status) => return Ok(Err(status)),
        };
        let length = self.bytes.len() as i64;
        let requests = self.requests(usize::try_from(committed)?);
        let mut written = pin!(async { ByteStreamClient::new(channel).write(requests).await });
        loop {
            tokio::select! {
                biased;
                written = &mut written => return match written {
                    Ok(response) => {
                        let committed = response.into_inner().committed_size;
                        ensure!(committed == length, "finished, and {committed} bytes committed");
                        Ok(Ok(true))
                    }
                    // It still had to write what had arrived when the query came.
                    Err(status) if status.code() == Code::FailedPrecondition => Ok(Ok(false)),
                    Err(status) => Ok(Err(status)),
                },
                // What it says in the meantime holds as well.
                () = pause(100) => if let Err(status) = self.committed(&mut client).await? {
                    return Ok(Err(status));
                }
            }
        }
    }

    fn requests(&self, from: usize) -> impl Stream<Item = WriteRequest> + use<> {
        let (resource_name, bytes) = (self.resource_name(), self.bytes.clone());
        async_stream::stream! {
            let mut offset = from;
            loop {
                let end = bytes.len().min(offset + CHUNK);
                yield WriteRequest {
                    resource_name: resource_name.clone(),
                    write_offset: offset as i64,
                    finish_write: end == bytes.len(),
                    data: bytes[offset..end].to_vec().into(),
                };
                offset = end;
                if offset == bytes.len() {
                    return;
                }
                pause(30).await;
            }
        }
    }

    async fn read(&self) -> Result<Option<Vec<u8>>, Status> {
        let Some(channel) = connect().await else { return Ok(None) };
        let request = ReadRequest { resource_name: format!("files/{}", self.name), ..ReadRequest::default() };
        let mut responses = ByteStreamClient::new(channel).read(request).await?.into_inner();
        let mut bytes = Vec::new();
        while let Some(response) = responses.message().await? {
            bytes.extend_from_slice(&response.data);
        }
        Ok(Some(bytes))
    }
}
