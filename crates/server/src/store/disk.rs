//! The room on the disk of the state, looked up when the metrics are read.

use std::{fmt, path::PathBuf};

use stack::prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::gauge::ConstGauge,
    registry::Unit,
};

/// The directory of the state.
#[derive(Debug)]
pub(super) struct Disk(pub(super) PathBuf);

impl Collector for Disk {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Ok(disk) = rustix::fs::statvfs(&self.0) else { return Ok(()) };
        for (name, help, blocks) in [
            ("disk_free", "Room on the disk of the state", disk.f_bavail),
            ("disk_size", "Size of the disk of the state", disk.f_blocks),
        ] {
            let bytes = ConstGauge::new(blocks as f64 * disk.f_frsize as f64);
            let kind = bytes.metric_type();
            bytes.encode(encoder.encode_descriptor(name, help, Some(&Unit::Bytes), kind)?)?;
        }
        Ok(())
    }
}
