//! The bounds and times of the scenarios that both sides have to agree on.

use std::{ops::RangeInclusive, time::Duration};

/// The seconds of a `google.protobuf.Timestamp`: the years 1 to 9999.
pub const TIMESTAMP_SECONDS: RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// The longest text that may be posted in a room, in bytes.
pub const TEXT_BYTES: usize = 4096;

/// After this long without news a stream that monitors something says that it is
/// alive.
pub const MONITORING_HEARTBEAT: Duration = Duration::from_secs(5);

/// After this long without an event a conversation says that it is alive. A
/// third of what a server or a proxy usually lets a stream be idle.
pub const CONVERSATION_HEARTBEAT: Duration = Duration::from_secs(20);

/// The longest address of a server that clients may learn, in bytes.
pub const ADVERTISED_BYTES: usize = 300;

/// The most bytes of a file that our client puts into one message of an upload.
pub const CHUNK_BYTES: usize = 2 << 20;
