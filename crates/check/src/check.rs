//! What a check is.

use std::{pin::Pin, time::Duration};

use clap::ValueEnum;

use crate::{outcome::Checked, path::Path};

/// What checks have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// DNS, TCP, TLS, HTTP/2, and a first call
    Connect,
    /// Whether each mode works
    Modes,
    /// Codes, messages, details and trailers
    Status,
    /// Metadata, in both directions
    Metadata,
    /// Deadlines, cancels and resets
    Control,
    /// Whether invalid calls are rejected, on every transport
    Rules,
    /// Large messages, many streams, slow readers, compression
    Flow,
    /// Silence, PINGs, and many calls on one connection
    Life,
    /// How many instances answer
    Balance,
    /// Health, reflection, gRPC-Web, HTTP/1.1
    Extras,
}

impl Group {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Modes => "modes",
            Self::Status => "status",
            Self::Metadata => "metadata",
            Self::Control => "control",
            Self::Rules => "rules",
            Self::Flow => "flow",
            Self::Life => "life",
            Self::Balance => "balance",
            Self::Extras => "extras",
        }
    }
}

/// Asks a path.
pub(crate) type Ask = for<'a> fn(&'a Path) -> Pin<Box<dyn Future<Output = Checked> + 'a>>;

/// A question to the path.
#[derive(Clone, Copy)]
pub(crate) struct Check {
    pub(crate) group: Group,
    pub(crate) name: &'static str,
    /// To the service that does what a script says, unless it needs no service.
    pub(crate) ask: Ask,
    /// Whether it needs no service that helps.
    pub(crate) is_anywhere: bool,
    /// Whether it takes as long as a stream is to be idle.
    pub(crate) is_idle: bool,
    pub(crate) kind: Kind,
    /// What it may take, whatever the path does.
    pub(crate) time: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Measures times, or is over at once: several run side by side.
    Light,
    /// Takes what the machine and the path can do: runs alone.
    Heavy,
    /// Mostly waits, beside all others.
    Long,
    /// Fills what is on the way, or needs all of it. On some paths that stops all others, or
    /// the others are in its way, so it comes last.
    Filling,
}

impl Check {
    /// How it is asked among these, if it can be.
    pub(crate) fn among(&self, asked: &[(Group, &str, Ask)]) -> Option<Ask> {
        let same = |(group, name, _): &&(Group, &str, Ask)| *group == self.group && *name == self.name;
        asked.iter().find(same).map(|(.., ask)| *ask)
    }

    pub(crate) const fn new(group: Group, name: &'static str, ask: Ask) -> Self {
        let time = Duration::from_secs(20);
        Self { group, name, ask, is_anywhere: false, is_idle: false, kind: Kind::Light, time }
    }

    /// Needs no service that helps.
    pub(crate) const fn anywhere(self) -> Self {
        Self { is_anywhere: true, ..self }
    }

    pub(crate) const fn heavy(self) -> Self {
        Self { kind: Kind::Heavy, time: Duration::from_secs(30), ..self }
    }

    pub(crate) const fn filling(self) -> Self {
        Self { kind: Kind::Filling, ..self.heavy() }
    }

    pub(crate) const fn long(self) -> Self {
        Self { kind: Kind::Long, time: Duration::from_secs(20), ..self }
    }

    /// Waits as long as a stream is to be idle, and then some.
    pub(crate) const fn idle(self) -> Self {
        Self { is_idle: true, ..self.long() }
    }
}
