//! Probes: what a script says is what the client gets, and what the client did is
//! what the observation says.

mod bounds;
mod endings;
mod observed;
mod performed;
mod readme;

use std::{net::SocketAddr, time::Duration};

use shared_proto::fourmodes::v1::{
    GetObservationRequest, MetadataEntry, Observation, Script, Step, ending::Kind,
    probe_service_client::ProbeServiceClient,
};
use test_support::{channel, within};
use tonic::transport::Channel;
use uuid::Uuid;

const SERVER_STREAMING: &str = "/fourmodes.v1.ProbeService/ServerStreaming";
const BIDI_STREAMING: &str = "/fourmodes.v1.ProbeService/BidiStreaming";

fn probe(address: SocketAddr) -> ProbeServiceClient<Channel> {
    ProbeServiceClient::new(channel(address)).max_decoding_message_size(17 << 20)
}

fn wire(duration: Duration) -> Option<prost_types::Duration> {
    Some(duration.try_into().unwrap())
}

fn milliseconds(count: u64) -> Option<prost_types::Duration> {
    wire(Duration::from_millis(count))
}

fn time(wire: Option<prost_types::Duration>) -> Duration {
    wire.expect("no time").try_into().unwrap()
}

fn new_id() -> String {
    Uuid::new_v4().to_string()
}

fn entry(key: &str, text: &str) -> MetadataEntry {
    MetadataEntry { key: key.to_owned(), text: text.to_owned(), binary: Vec::new() }
}

fn binary_entry(key: &str, binary: &[u8]) -> MetadataEntry {
    MetadataEntry { key: key.to_owned(), text: String::new(), binary: binary.to_vec() }
}

fn echo(repeat: u32) -> Step {
    Step { repeat, echo: true, ..Step::default() }
}

fn ending(kind: Kind) -> Script {
    Script { ending: end(kind), ..Script::default() }
}

fn end(kind: Kind) -> Option<shared_proto::fourmodes::v1::Ending> {
    Some(shared_proto::fourmodes::v1::Ending { kind: Some(kind) })
}

async fn observation(address: SocketAddr, call_id: &str) -> Option<Observation> {
    let request = GetObservationRequest { call_id: call_id.to_owned() };
    within(probe(address).get_observation(request)).await.ok()?.into_inner().observation
}

/// Of a call, when it is as expected.
#[track_caller]
fn observed(
    address: SocketAddr,
    call_id: &str,
    expected: impl Fn(&Observation) -> bool,
) -> impl Future<Output = Observation> {
    within(async move {
        loop {
            if let Some(observation) = observation(address, call_id).await.filter(&expected) {
                return observation;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
}
