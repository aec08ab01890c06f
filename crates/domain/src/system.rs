//! The load of this process and of its machine.

use std::time::{Duration, SystemTime};

use sysinfo::{Disks, Networks, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// CPU time is counted by the kernel in steps: closer readings mean nothing.
pub const SHORTEST_INTERVAL: Duration = sysinfo::MINIMUM_CPU_UPDATE_INTERVAL;

#[allow(missing_docs, reason = "the messages say it")]
#[derive(Debug, thiserror::Error)]
#[error("the load of this machine cannot be read: {0}")]
pub struct Unreadable(#[from] sysinfo::Error);

/// The load at one moment.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When it was read.
    pub time: SystemTime,
    /// Of this process.
    pub process: ProcessLoad,
    /// Of all processes together.
    pub machine: MachineLoad,
}

#[allow(missing_docs, reason = "the names say it")]
#[derive(Debug, Clone, Default)]
pub struct ProcessLoad {
    pub cpu_percent: f64,
    pub memory_bytes: u64,
    pub disk_read_bytes: u64,
    pub disk_written_bytes: u64,
}

#[allow(missing_docs, reason = "the names say it")]
#[derive(Debug, Clone, Default)]
pub struct MachineLoad {
    pub cpu_percent: f64,
    pub memory_used_bytes: u64,
    pub memory_total_bytes: u64,
    pub disk_available_bytes: u64,
    pub disk_total_bytes: u64,
    pub network_received_bytes: u64,
    pub network_sent_bytes: u64,
}

/// Reads the load; what is a rate counts from the reading before.
pub struct Monitor {
    system: System,
    disks: Disks,
    networks: Networks,
    own: Pid,
}

impl Monitor {
    /// Takes the reading that the first sample counts from. Blocks for a few
    /// milliseconds, as [`sample`](Self::sample) does.
    pub fn start() -> Result<Self, Unreadable> {
        let mut monitor = Self {
            system: System::new()?,
            disks: Disks::new_with_refreshed_list()?,
            networks: Networks::new_with_refreshed_list()?,
            own: sysinfo::get_current_pid()?,
        };
        monitor.refresh();
        Ok(monitor)
    }

    /// The load since the reading before, which has to be at least
    /// [`SHORTEST_INTERVAL`] ago.
    pub fn sample(&mut self) -> Sample {
        self.refresh();
        let process = self.system.process(self.own).map(|process| {
            let disk = process.disk_usage();
            ProcessLoad {
                cpu_percent: process.cpu_usage().into(),
                memory_bytes: process.memory(),
                disk_read_bytes: disk.total_read_bytes,
                disk_written_bytes: disk.total_written_bytes,
            }
        });
        Sample {
            time: SystemTime::now(),
            process: process.unwrap_or_default(),
            machine: MachineLoad {
                cpu_percent: self.system.global_cpu_usage().into(),
                memory_used_bytes: self.system.used_memory(),
                memory_total_bytes: self.system.total_memory(),
                disk_available_bytes: self.disks.iter().map(sysinfo::Disk::available_space).sum(),
                disk_total_bytes: self.disks.iter().map(sysinfo::Disk::total_space).sum(),
                network_received_bytes: self.networks.values().map(|n| n.received()).sum(),
                network_sent_bytes: self.networks.values().map(|n| n.transmitted()).sum(),
            },
        }
    }

    fn refresh(&mut self) {
        self.system.refresh_memory();
        self.system.refresh_cpu_usage();
        self.networks.refresh(true);
        self.disks.refresh(true);
        let what = ProcessRefreshKind::nothing().with_cpu().with_memory().with_disk_usage();
        self.system.refresh_processes_specifics(ProcessesToUpdate::Some(&[self.own]), false, what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_of_this_process_and_this_machine() {
        let sample = Monitor::start().unwrap().sample();
        assert!(sample.process.memory_bytes > 100 << 10, "{sample:?}");
        assert!(sample.machine.memory_total_bytes > sample.process.memory_bytes, "{sample:?}");
        assert!(sample.machine.memory_used_bytes <= sample.machine.memory_total_bytes, "{sample:?}");
    }
}
