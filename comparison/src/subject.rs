//! All that can be measured, under one kind of name.

use std::sync::LazyLock;

use clap::{ValueEnum, builder::PossibleValue};

use crate::work::Work;

/// Something to be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// How often it is done.
    Rate(Work),
    /// Something that is no rate.
    Special(Special),
}

/// What is no rate of one work on several servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Special {
    /// A file uploaded to the disk by our client, beside a copy of it that is as durable
    Durable,
    /// Memory of the server before, while and after it has many idle streams
    Memory,
    /// How long calls wait at half of the highest rate, with and without an upload beside them
    Beside,
    /// Messages of more and more streams at once
    Streams,
    /// How long the answer to longer and longer messages takes
    Sizes,
    /// What a call takes on the wire, in gRPC, REST and Go's net/rpc
    Wire,
    /// CPU time, sleeps and system calls of each operation, beside bare tonic and TCP
    Costs,
}

impl ValueEnum for Subject {
    fn value_variants<'a>() -> &'a [Self] {
        static ALL: LazyLock<Vec<Subject>> = LazyLock::new(|| {
            let works = Work::value_variants().iter().copied().map(Subject::Rate);
            let specials = Special::value_variants().iter().copied().map(Subject::Special);
            works.chain(specials).collect()
        });
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Rate(work) => work.to_possible_value(),
            Self::Special(special) => special.to_possible_value(),
        }
    }
}
