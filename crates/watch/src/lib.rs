//! A proxy between any client and any server that reports the traffic.
//!
//! A [`Watch`] copies the bytes of each connection. A decoder reads a copy of them: it
//! cannot change, delay or add anything, and if it fails, the bytes still pass. It
//! produces [`Event`]s. These go through a [`queue`], which never makes a connection
//! wait, to a [`Drawing`], which has the renderers of `timeline`, or to a recording.

mod call;
mod decoder;
mod drawing;
mod filter;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzed;
mod hpack;
mod http1;
mod http2;
mod numbers;
mod pools;
mod queue;
mod record;
mod refuse;
mod replay;
mod seen;
mod tap;
mod watch;

#[cfg(any(test, feature = "fuzzing"))]
pub use self::fuzzed::watched;
pub use self::{
    call::Depth,
    drawing::Drawing,
    filter::{Filter, Only},
    pools::Pools,
    queue::{Events, Queue, queue},
    record::{Recorder, Recording, RecordingError},
    replay::{Ignored, RecordedCall, Replayed, calls, replay},
    seen::{Event, Fields, Seen},
    tap::Taps,
    watch::{Acceptor, Watch},
};
