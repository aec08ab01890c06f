//! The HTTP/2 settings that both ends need to be right, and the bounds of a
//! message.

use std::time::Duration;

use tonic::codec::BufferSettings;

/// How much a peer may send on one stream before it is read, in bytes.
pub const STREAM_WINDOW: u32 = 1 << 20;

/// The same for all streams of a connection together, in bytes.
///
/// Sixteen stream windows, for two reasons. A few streams that nobody reads do
/// not starve the others. And h2 charges each unread DATA frame under 256
/// bytes with what it lacks to 256, against half of this window; when that is
/// used up it ends the whole connection. At this ratio one stream of frames of
/// 29 bytes or more cannot get there.
pub const CONNECTION_WINDOW: u32 = 16 << 20;

/// The largest DATA frame, in bytes. The default of 16 KiB costs an upload a
/// third of its throughput.
pub const FRAME_SIZE: u32 = 256 << 10;

/// A side sends a keepalive ping after this much silence.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Time limit for the answer to a ping.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Default maximum size of a message in a stream, in bytes.
pub const MESSAGE_BYTES: u64 = 4 << 20;

/// Default maximum size of a message of a unary call, in bytes.
pub const UNARY_MESSAGE_BYTES: u64 = 64 << 10;

/// The buffers of a codec. A call has two of them as long as it is open: tonic's default of
/// 8 KiB is most of the memory of an idle stream. They grow as needed.
pub fn codec_buffers() -> BufferSettings {
    BufferSettings::new(1 << 10, 32 << 10)
}
