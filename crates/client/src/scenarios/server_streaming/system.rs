//! The load of the server's process and of its machine. A sample is taken when it
//! is sent.

use std::fmt;

use clap::Args;
use indicatif::HumanBytes;
use serde::Serialize;
use shared_proto::{
    fourmodes::v1::{
        WatchSystemRequest, WatchSystemResponse,
        server_streaming_service_client::ServerStreamingServiceClient,
    },
    limits::MONITORING_HEARTBEAT,
};
use timeline::words::counted;

use crate::{
    failure::Failure,
    scenario::Scenario,
    scenarios::options::{Count, Interval},
    session::Session,
};

/// Watch the load of the server's process and machine
#[derive(Debug, Args)]
#[command(mut_arg("interval", |interval| interval.help("Time between two samples, at least 200ms")))]
#[command(mut_arg("count", |count| count.default_value("5").help("Number of samples; 0 continues until Ctrl-C")))]
pub(crate) struct System {
    #[command(flatten)]
    pub(crate) interval: Interval,
    #[command(flatten)]
    pub(crate) count: Count,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) count: u64,
    /// The last sample, in the units of the proto.
    #[serde(skip_serializing_if = "Option::is_none")]
    latest: Option<Sample>,
}

#[derive(Debug, Serialize)]
struct Sample {
    process_cpu_percent: f64,
    process_memory_bytes: u64,
    process_disk_read_bytes: u64,
    process_disk_written_bytes: u64,
    machine_cpu_percent: f64,
    machine_memory_used_bytes: u64,
    machine_memory_total_bytes: u64,
    machine_disk_available_bytes: u64,
    machine_disk_total_bytes: u64,
    machine_network_received_bytes: u64,
    machine_network_sent_bytes: u64,
}

impl Scenario for System {
    type Report = Report;

    async fn run(&self, session: &Session, report: &mut Report) -> Result<(), Failure> {
        session
            .resuming(async || {
                // Only the end was lost.
                let Some(count) = self.count.left_after(report.count) else { return Ok(()) };
                let request = WatchSystemRequest { interval: self.interval.wire()?, count };
                let request = session.request(request, Some(MONITORING_HEARTBEAT));
                let mut client = ServerStreamingServiceClient::new(session.channel());
                let mut samples = client.watch_system(request).await?.into_inner();
                while let Some(response) = samples.message().await? {
                    session.progressed();
                    if response.heartbeat.is_some() {
                        continue;
                    }
                    report.count += 1;
                    report.latest = Some(response.into());
                }
                Ok(())
            })
            .await
    }
}

impl From<WatchSystemResponse> for Sample {
    fn from(response: WatchSystemResponse) -> Self {
        let process = response.process.unwrap_or_default();
        let machine = response.machine.unwrap_or_default();
        Self {
            process_cpu_percent: process.cpu_percent,
            process_memory_bytes: process.memory_bytes,
            process_disk_read_bytes: process.disk_read_bytes,
            process_disk_written_bytes: process.disk_written_bytes,
            machine_cpu_percent: machine.cpu_percent,
            machine_memory_used_bytes: machine.memory_used_bytes,
            machine_memory_total_bytes: machine.memory_total_bytes,
            machine_disk_available_bytes: machine.disk_available_bytes,
            machine_disk_total_bytes: machine.disk_total_bytes,
            machine_network_received_bytes: machine.network_received_bytes,
            machine_network_sent_bytes: machine.network_sent_bytes,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(latest) = &self.latest else { return Ok(()) };
        let bytes = HumanBytes;
        writeln!(f, "{}; the last one:", counted(self.count, "sample"))?;
        writeln!(
            f,
            "    server   {:>5.1} % of a core, {} of memory, disk {} read, {} written",
            latest.process_cpu_percent,
            bytes(latest.process_memory_bytes),
            bytes(latest.process_disk_read_bytes),
            bytes(latest.process_disk_written_bytes),
        )?;
        write!(
            f,
            "    machine  {:>5.1} % of all cores, {} of {} memory\n             {} of {} disk free, network {} in, {} out",
            latest.machine_cpu_percent,
            bytes(latest.machine_memory_used_bytes),
            bytes(latest.machine_memory_total_bytes),
            bytes(latest.machine_disk_available_bytes),
            bytes(latest.machine_disk_total_bytes),
            bytes(latest.machine_network_received_bytes),
            bytes(latest.machine_network_sent_bytes),
        )
    }
}
