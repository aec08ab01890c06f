//! What the domain needs of whatever keeps its state.
//!
//! Two kinds of state. A *stream* is a log: records with a sequence from 1 and
//! without a gap, appended at the end, read by cursor, trimmed at the front. A
//! *key* has one value. Every change goes by [`Store::commit`], which makes all
//! of its writes or none and answers when they are durable. A broker or a
//! distributed store has the same four verbs: append with an expected sequence,
//! read from a sequence, wait for more, compare and set.
//!
//! A command, a post, a batch and an upload take effect once: the client chooses an
//! id for each, and one commit has the id together with the effect.

#[cfg(test)]
pub(crate) mod failing;
mod memory;

use std::{collections::HashMap, fmt, pin::Pin};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

pub use self::memory::Memory;

/// A read answers with no more bytes than this, unless a single record has more.
pub const READ_BYTES: usize = 1 << 20;

/// Sixteen bytes that a client chose, such as a UUID.
pub type Id = [u8; 16];

/// What a [`Store`] will have said.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

/// Keeps the state.
pub trait Store: fmt::Debug + Send + Sync {
    /// Makes all of `writes`, or none of them.
    ///
    /// The answer comes when they are durable, with the sequence of each
    /// [`Write::Append`] in its place. Commits take effect in the order of the
    /// calls, whether or not their answers are waited for, and several of them
    /// may become durable together.
    fn commit(&self, writes: Vec<Write>) -> Answer<Vec<Written>>;

    /// Up to `most` records from the sequence `from` on, fewer when they are
    /// large. Empty when there are none yet.
    ///
    /// [`StoreError::Trimmed`] when `from` is before the first one that is left.
    fn read(&self, stream: &str, from: u64, most: usize) -> Answer<Vec<Record>>;

    /// What is there of a stream.
    fn extent(&self, stream: &str) -> Answer<Extent>;

    /// Up to `most` streams whose names have this prefix and come after `after`, in
    /// the order of their bytes, with what is there of them.
    fn streams(&self, prefix: &str, after: &str, most: usize) -> Answer<Vec<(String, Extent)>>;

    /// Follows the last sequence of a stream. It only says that there is more;
    /// what there is has to be read.
    fn watch(&self, stream: &str) -> watch::Receiver<u64>;

    /// The value of a key, if it has one.
    fn get(&self, key: &str) -> Answer<Option<Bytes>>;

    /// Up to `most` keys with this prefix that come after `after`, in the order
    /// of their bytes, with their values.
    fn list(&self, prefix: &str, after: &str, most: usize) -> Answer<Vec<(String, Bytes)>>;
}

#[allow(missing_docs, reason = "the names say it")]
#[derive(Debug, Clone)]
pub enum Write {
    Append {
        stream: String,
        record: Bytes,
        /// A record with an id that the stream has changes nothing, and its
        /// answer is the sequence that it has. Ids are forgotten with their
        /// records.
        id: Option<Id>,
        /// The sequence that is the last one before; any, when unset.
        expect: Option<u64>,
    },
    /// Forgets the records of a stream before a sequence.
    Trim {
        stream: String,
        before: u64,
    },
    /// Forgets a stream, if its last sequence is the one that is expected. A stream
    /// that begins later under a name of the same kind, which is what comes before
    /// the first `/`, goes on behind the sequences of those that were forgotten: a
    /// reader that knows an old one learns that it is gone.
    Forget {
        stream: String,
        expect: u64,
    },
    Put {
        key: String,
        value: Bytes,
        expect: Expect,
    },
    Delete {
        key: String,
        expect: Expect,
    },
}

/// What a key must have for a write to be made.
#[allow(missing_docs, reason = "the names say it")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    Anything,
    Nothing,
    Value(Bytes),
}

impl Expect {
    /// Whether a key that has this value has what it must.
    pub fn is_met_by(&self, value: Option<&Bytes>) -> bool {
        match self {
            Self::Anything => true,
            Self::Nothing => value.is_none(),
            Self::Value(expected) => value == Some(expected),
        }
    }
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// A new record, and its sequence.
    Appended(u64),
    /// The sequence of the record that has the id already.
    Known(u64),
    /// A write that is no append.
    Done,
}

/// What was appended to a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the stream.
    pub sequence: u64,
    /// As they were appended.
    pub bytes: Bytes,
}

/// What is there of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The first sequence that is left, or the next one when none is.
    pub first: u64,
    /// The last sequence that was given; before the first one that of its kind
    /// which was forgotten, or 0.
    pub last: u64,
    /// Of all records that are left.
    pub bytes: u64,
}

impl Extent {
    /// Of a stream that begins behind this sequence.
    pub const fn empty_after(last: u64) -> Self {
        Self { first: last + 1, last, bytes: 0 }
    }

    /// # Errors
    ///
    /// [`StoreError::Trimmed`] when a sequence is before the first one.
    pub fn reaches(self, from: u64) -> Result<(), StoreError> {
        match self.first {
            first if from < first => Err(StoreError::Trimmed { from, first }),
            _ => Ok(()),
        }
    }
}

/// What comes before the first `/` of a stream's name: streams of a kind share what
/// [`Write::Forget`] leaves.
pub fn kind(stream: &str) -> &str {
    stream.split_once('/').map_or(stream, |(kind, _)| kind)
}

#[allow(missing_docs, reason = "the messages say it")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another writer was faster: read again and decide anew.
    #[error("{what} is not as expected")]
    Conflict { what: String },
    #[error("sequence {from} is gone: the first one that is left is {first}")]
    Trimmed { from: u64, first: u64 },
    /// Nothing of this commit was made.
    #[error("the server's disk is full")]
    Full,
    /// It may or may not have been made.
    #[error("the server's store does not work: {0}")]
    Broken(String),
    #[error("the server's store is damaged: {0}")]
    Damaged(String),
}

/// The last sequences of the streams that are followed, by name.
pub type Watched = HashMap<String, watch::Sender<u64>>;

/// [`Store::watch`] of a store that keeps these. Forgets streams that are no longer followed.
pub fn follow(watched: &mut Watched, stream: &str) -> watch::Receiver<u64> {
    if let Some(last) = watched.get(stream) {
        return last.subscribe();
    }
    watched.retain(|_, last| last.receiver_count() > 0);
    watched.entry(stream.to_owned()).or_insert_with(|| watch::Sender::new(0)).subscribe()
}

/// The bytes of a value of the domain. The format is stable as long as fields
/// and variants are only added at the end of an enum.
pub(crate) fn encode(value: &impl Serialize) -> Bytes {
    // A `Vec` takes everything, and the domain's types have nothing, such as a
    // sequence of unknown length, that the format does not.
    #[expect(clippy::expect_used, reason = "see above")]
    postcard::to_allocvec(value).expect("a value without a form").into()
}

/// The value whose bytes these are. `what` it is stands in the error.
pub(crate) fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, StoreError> {
    postcard::from_bytes(bytes).map_err(|error| StoreError::Damaged(format!("{what}: {error}")))
}
