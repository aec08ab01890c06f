//! All goals, held against what was measured.

use shared_chart::Unit;

use super::{
    goal::{Bound, Goal},
    model::{Rate, Report},
    number::number,
};
use crate::{
    statistics::Spread,
    work::{
        Contestant::{self, BareTonic, H2, Ours, Tcp},
        Work, name,
    },
};

/// The share of what streams have taken that is to be given back.
const GIVEN_BACK: f64 = 0.9;

/// The key of a ratio that is far from the others.
pub(crate) const COLUMNAR: &str = "columnar";

const MIB: f64 = (1 << 20) as f64;

/// A ratio that is to be at least so much, by the server's CPU time.
const RATIOS: [(Work, &str, Contestant, f64); 11] = [
    (Work::Unary1, "unary, 1 in flight", BareTonic, 1.0),
    (Work::Unary64, "unary, 64 in flight", BareTonic, 1.0),
    (Work::Unary512, "unary, 512 in flight", BareTonic, 1.0),
    (Work::Unary64, "unary, 64 in flight", H2, 0.6),
    (Work::ServerStreaming, "server stream, small messages", BareTonic, 1.0),
    (Work::ClientStreaming, "client stream, small messages", BareTonic, 1.0),
    (Work::BidiStreaming, "bidi pipelined, small messages", BareTonic, 1.2),
    (Work::Upload64kib, "upload into a sink, 64 KiB chunks", BareTonic, 1.9),
    (Work::Upload1mib, "upload into a sink, 1 MiB chunks", BareTonic, 1.5),
    (Work::Upload64kib, "upload into a sink, 64 KiB chunks", Tcp, 0.8),
    (Work::Upload1mib, "upload into a sink, 1 MiB chunks", Tcp, 0.55),
];

impl Report {
    /// Holds what was measured against the goals.
    pub(crate) fn judge(&mut self) {
        let mut goals: Vec<_> = RATIOS.into_iter().map(|goal| self.ratio(goal)).collect();
        let columnar = Goal::new(
            COLUMNAR,
            "columnar items: 1,000 values in a message",
            "one message each",
            Bound::AtLeast(3.5),
            self.columnar(),
        );
        goals.insert(7, columnar);
        let size = self
            .durable
            .as_ref()
            .map_or_else(String::new, |durable| format!(", {}", Unit::Bytes.text(durable.bytes as f64)));
        goals.push(Goal::new(
            "durable",
            &format!("upload to disk, verified and durable{size}"),
            "`cp` + `fsync`",
            Bound::AtLeast(0.7),
            self.durable.as_ref().and_then(|durable| durable.ratio()),
        ));
        let memory = self.memory.as_ref();
        let idle = memory.map_or_else(String::new, |memory| {
            let streams = number(memory.streams as f64);
            format!(", {streams} open idle streams over {} connections", memory.connections)
        });
        goals.push(Goal::new(
            "memory",
            &format!("memory{idle}"),
            "–",
            Bound::BytesAtMost(300.0 * MIB),
            memory.and_then(|memory| memory.open()),
        ));
        goals.push(Goal::new(
            "memory-given-back",
            "memory of closed streams that an idle server returns",
            "–",
            Bound::ShareAtLeast(GIVEN_BACK),
            memory.and_then(|memory| memory.given_back(|round| round.after)),
        ));
        goals.push(Goal::new(
            "memory-given-back-calls",
            "memory of closed streams that the next calls return",
            "–",
            Bound::ShareAtLeast(GIVEN_BACK),
            memory.and_then(|memory| memory.given_back(|round| round.after_calls)),
        ));
        goals.push(Goal::new(
            "beside",
            "p99 of unary calls at half the highest rate, while one upload runs at full speed on another connection",
            "the same without the upload",
            Bound::AtMost(3.0),
            self.beside.as_ref().and_then(|beside| beside.ratio()),
        ));
        self.goals = goals;
    }

    fn ratio(&self, (work, words, contestant, bound): (Work, &str, Contestant, f64)) -> Goal {
        let against = match contestant {
            BareTonic => "bare tonic, defaults",
            H2 => "h2 alone",
            _ => "raw TCP",
        };
        let measured = self.rate(work, contestant).map(|rate| rate.ratio);
        Goal::new(
            &format!("{}-{}", name(work), name(contestant)),
            words,
            against,
            Bound::AtLeast(bound),
            measured,
        )
    }

    fn columnar(&self) -> Option<Spread> {
        let rounds = |work| self.rate(work, Ours).map(|rate| &rate.rounds_per_cpu_second);
        Spread::ratio(rounds(Work::Columnar)?, rounds(Work::Values)?)
    }

    fn rate(&self, work: Work, contestant: Contestant) -> Option<&Rate> {
        self.rates.iter().find(|rate| rate.work == work && rate.contestant == contestant)
    }
}
