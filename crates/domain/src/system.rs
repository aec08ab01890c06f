//! The load of this process and of its machine.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::{Duration, Instant, SystemTime},
};

use sysinfo::{Disks, Networks, Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::{sync::Mutex, task::JoinError};

use crate::platform;

/// CPU time is counted by the kernel in steps: closer readings mean nothing.
pub const SHORTEST_INTERVAL: Duration = sysinfo::MINIMUM_CPU_UPDATE_INTERVAL;
/// A watcher that wants a sample so soon after another one gets the same. It is
/// shorter than the shortest interval, so that a timer that is early gets its own.
const MOMENT: Duration = Duration::from_millis(150);

#[allow(missing_docs, reason = "the messages say it")]
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot read the load of this machine: {0}")]
    Unreadable(#[from] sysinfo::Error),
    #[error("reading the load was interrupted: {0}")]
    CutShort(#[from] JoinError),
}

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

/// The load, for all that watch it: a reading serves each of them.
#[derive(Default)]
pub struct Load {
    /// As long as somebody watches.
    meter: Mutex<Weak<Mutex<Meter>>>,
}

/// One that watches the load.
pub struct Watcher(Arc<Mutex<Meter>>);

/// Reads the load; what is a rate counts from the reading before.
struct Meter {
    system: System,
    disks: Disks,
    networks: Networks,
    own: Pid,
    latest: Option<(Instant, Sample)>,
}

impl Load {
    /// The first one takes the reading that the first sample counts from.
    pub async fn watch(&self) -> Result<Watcher, LoadError> {
        let mut shared = self.meter.lock().await;
        if let Some(meter) = shared.upgrade() {
            return Ok(Watcher(meter));
        }
        let meter = Arc::new(Mutex::new(platform::blocking(Meter::start).await??));
        *shared = Arc::downgrade(&meter);
        Ok(Watcher(meter))
    }
}

impl Watcher {
    /// The load since the reading before, for whichever watcher that was, or what
    /// was read a moment ago.
    pub async fn sample(&self) -> Result<Sample, LoadError> {
        let mut meter = self.0.clone().lock_owned().await;
        match &meter.latest {
            Some((read, sample)) if read.elapsed() < MOMENT => Ok(sample.clone()),
            _ => Ok(platform::blocking(move || meter.sample()).await?),
        }
    }
}

impl Meter {
    fn start() -> Result<Self, sysinfo::Error> {
        let mut meter = Self {
            system: System::new()?,
            disks: Disks::new_with_refreshed_list()?,
            networks: Networks::new_with_refreshed_list()?,
            own: sysinfo::get_current_pid()?,
            latest: None,
        };
        meter.refresh();
        Ok(meter)
    }

    fn sample(&mut self) -> Sample {
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
        let sample = Sample {
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
        };
        self.latest = Some((Instant::now(), sample.clone()));
        sample
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

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Load").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sample_is_of_this_process_and_this_machine() {
        let sample = Load::default().watch().await.unwrap().sample().await.unwrap();
        assert!(sample.process.memory_bytes > 100 << 10, "{sample:?}");
        assert!(sample.machine.memory_total_bytes > sample.process.memory_bytes, "{sample:?}");
        assert!(sample.machine.memory_used_bytes <= sample.machine.memory_total_bytes, "{sample:?}");
    }

    #[tokio::test]
    async fn all_that_watch_share_a_reading() {
        let load = Load::default();
        let (one, other) = (load.watch().await.unwrap(), load.watch().await.unwrap());
        assert!(Arc::ptr_eq(&one.0, &other.0));
        let first = one.sample().await.unwrap();
        assert_eq!(other.sample().await.unwrap().time, first.time);
        // Older than a moment.
        one.0.lock().await.latest.as_mut().unwrap().0 -= MOMENT;
        let second = other.sample().await.unwrap();
        assert!(second.time > first.time);
        // The last one takes the meter along.
        let meter = Arc::downgrade(&one.0);
        drop((one, other));
        assert!(meter.upgrade().is_none());
    }
}
