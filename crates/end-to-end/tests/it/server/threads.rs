//! Which threads of the server are at work.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path};

use shared_proto::{
    fourmodes::v1::{
        MultiplyRequest, Script, ServerStreamingRequest, Step, probe_service_client::ProbeServiceClient,
        unary_service_client::UnaryServiceClient,
    },
    testing::{BoolValue, SimpleRequest, test_service_client::TestServiceClient},
};
use test_support::{channel, run, within};
use tonic::codec::CompressionEncoding;

use crate::server::binary;

/// A figure of each thread of a process; of those with the same name, the sum.
fn by_thread(process: u32, figure: impl Fn(&Path) -> Option<u64>) -> BTreeMap<String, u64> {
    let mut figures = BTreeMap::new();
    for thread in fs::read_dir(format!("/proc/{process}/task")).unwrap() {
        let thread = thread.unwrap().path();
        // One that has ended has neither.
        let Ok(name) = fs::read_to_string(thread.join("comm")) else { continue };
        *figures.entry(name.trim().to_owned()).or_default() += figure(&thread).unwrap_or_default();
    }
    figures
}

/// How often a thread has waited for something.
fn waits(thread: &Path) -> Option<u64> {
    let status = fs::read_to_string(thread.join("status")).ok()?;
    let waits = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    Some(waits.unwrap().trim().parse().unwrap())
}

/// How long a thread has computed: of these ticks a second has a hundred.
fn ticks(thread: &Path) -> Option<u64> {
    let stat = fs::read_to_string(thread.join("stat")).ok()?;
    let (_name, fields) = stat.rsplit_once(") ").unwrap();
    Some(fields.split(' ').nth(11).unwrap().parse().unwrap())
}

#[test]
fn the_calls_of_a_connection_wake_no_thread_but_its_own() {
    const CALLS: u64 = 1000;
    run(async {
        let server = binary(&["all", "--workers", "2"]).serve();
        let mut client = UnaryServiceClient::new(channel(server.address));
        let mut call = async || within(client.multiply(MultiplyRequest { a: 6, b: 7 })).await.unwrap();
        call().await;
        let before = by_thread(server.id(), waits);
        for _ in 0..CALLS {
            call().await;
        }
        let mut since = by_thread(server.id(), waits);
        since.iter_mut().for_each(|(name, waits)| *waits -= before.get(name).copied().unwrap_or_default());
        let (woken, others): (Vec<_>, Vec<_>) = since.iter().partition(|(_, waits)| **waits > CALLS / 10);
        assert!(woken.len() == 1 && woken[0].0.starts_with("worker-"), "{woken:?}, {others:?}");
    });
}

const SIZE: u32 = 4 << 20;
const LONGEST: usize = SIZE as usize + (1 << 10);

async fn compressed_by_a_probe(address: SocketAddr) {
    let step = Step { payload_bytes: SIZE, compressible: true, ..Step::default() };
    let script = Some(Script { steps: vec![step], ..Script::default() });
    let client = ProbeServiceClient::new(channel(address)).max_decoding_message_size(LONGEST);
    let request = ServerStreamingRequest { script, ..Default::default() };
    let answers = client.accept_compressed(CompressionEncoding::Gzip).server_streaming(request).await;
    let first = answers.unwrap().into_inner().message().await.unwrap().unwrap();
    assert_eq!(first.payload.len(), SIZE as usize);
}

async fn compressed_by_the_interop_service(address: SocketAddr) {
    let response_compressed = Some(BoolValue { value: true });
    let request = SimpleRequest { response_size: SIZE as i32, response_compressed, ..Default::default() };
    let client = TestServiceClient::new(channel(address)).max_decoding_message_size(LONGEST);
    client.accept_compressed(CompressionEncoding::Gzip).unary_call(request).await.unwrap();
}

#[test]
fn to_compress_keeps_no_thread_of_connections_busy() {
    run(async {
        for is_probe in [true, false] {
            let server = binary(&["all"]).serve();
            // Until the two have computed for half a second.
            loop {
                match is_probe {
                    true => within(compressed_by_a_probe(server.address)).await,
                    false => within(compressed_by_the_interop_service(server.address)).await,
                }
                let threads = by_thread(server.id(), ticks);
                let of = |name| {
                    threads.iter().filter(|(it, _)| it.starts_with(name)).map(|(_, ticks)| ticks).sum()
                };
                let (workers, compress): (u64, u64) = (of("worker-"), of("compress"));
                if workers + compress > 50 {
                    assert!(compress > workers, "probe: {is_probe}, {threads:?}");
                    break;
                }
            }
        }
    });
}
