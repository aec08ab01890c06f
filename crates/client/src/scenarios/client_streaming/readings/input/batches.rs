//! Collects rows into numbered batches of one device each.

use std::{collections::HashMap, mem};

use serde::Serialize;
use shared_proto::fourmodes::v1::Reading;

/// How many rows a batch has. [`PRODUCER`](super::PRODUCER) has to change with this.
pub(super) const BATCH: usize = 512;
/// How many rows of all devices wait for their batches to fill.
/// [`PRODUCER`](super::PRODUCER) has to change with this.
const HELD: usize = 65_536;
/// How many devices an input may have. [`PRODUCER`](super::PRODUCER) has to change with
/// this.
pub(super) const DEVICES: usize = 10_000;

/// The batches and refused rows of some input.
#[derive(Debug, Default)]
pub(in super::super) struct Portion {
    pub(in super::super) batches: Vec<Batch>,
    /// Rows that are not readings.
    pub(in super::super) refused: Vec<Refused>,
}

/// Readings of one device.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Batch {
    pub(in super::super) device: String,
    /// Counts from 1 for each device.
    pub(in super::super) sequence: u64,
    pub(in super::super) readings: Vec<Reading>,
}

/// A row that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in super::super) struct Refused {
    pub(in super::super) line: u64,
    pub(in super::super) reason: String,
}

/// Rows that are being collected into batches.
#[derive(Default)]
pub(super) struct Rows {
    /// In the order of their first row.
    devices: Vec<Device>,
    places: HashMap<String, usize>,
    /// The number of rows that are not in a batch yet.
    held: usize,
    pub(super) ready: Portion,
}

struct Device {
    name: String,
    /// The number of the last batch.
    sequence: u64,
    held: Vec<Reading>,
}

impl Rows {
    pub(super) fn add(&mut self, device: &str, reading: Reading) {
        let place = match self.places.get(device) {
            Some(place) => *place,
            None if self.devices.len() == DEVICES => {
                let reason = format!("too many devices: an input may have {DEVICES}");
                return self.refuse(reading.line, reason);
            }
            None => {
                self.places.insert(device.to_owned(), self.devices.len());
                self.devices.push(Device { name: device.to_owned(), sequence: 0, held: Vec::new() });
                self.devices.len() - 1
            }
        };
        let device = &mut self.devices[place];
        device.held.push(reading);
        self.held += 1;
        if device.held.len() == BATCH {
            self.held -= BATCH;
            self.ready.batches.push(device.complete());
        }
    }

    pub(super) fn refuse(&mut self, line: u64, reason: String) {
        self.ready.refused.push(Refused { line, reason });
    }

    /// Whether so many rows wait that incomplete batches have to be sent.
    pub(super) fn is_full(&self) -> bool {
        self.held >= HELD
    }

    pub(super) fn complete_all(&mut self) {
        let waiting = self.devices.iter_mut().filter(|device| !device.held.is_empty());
        self.ready.batches.extend(waiting.map(Device::complete));
        self.held = 0;
    }

    pub(super) fn is_portion(&self) -> bool {
        !self.ready.batches.is_empty() || self.ready.refused.len() >= BATCH
    }
}

impl Device {
    fn complete(&mut self) -> Batch {
        self.sequence += 1;
        let readings = mem::take(&mut self.held);
        Batch { device: self.name.clone(), sequence: self.sequence, readings }
    }
}
