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
        Contestant::{self, BareTonic, Connectrpc, GrpcCpp, GrpcGo, GrpcJava, H2, Ours, Tcp},
        Work, name,
    },
};

/// The share of what streams have taken that is to be given back.
const GIVEN_BACK: f64 = 0.9;

/// The key of a ratio that is far from the others.
pub(crate) const COLUMNAR: &str = "columnar";

const MIB: f64 = (1 << 20) as f64;

/// The works of all stacks, and how many times what the best of the others does is the goal, by
/// the clock as well as by the server's CPU time.
const WORKS: [(Work, &str, f64); 11] = [
    (Work::Unary1, "unary, 1 in flight", 1.0),
    (Work::Unary4, "unary, 4 in flight", 1.1),
    (Work::Unary16, "unary, 16 in flight", 1.1),
    (Work::Unary64, "unary, 64 in flight", 1.1),
    (Work::Unary512, "unary, 512 in flight on eight connections", 1.0),
    (Work::ServerStreaming, "server stream, small messages", 1.0),
    (Work::ClientStreaming, "client stream, small messages", 1.0),
    (Work::BidiStreaming, "bidi pipelined, small messages", 1.0),
    (Work::BidiPingPong, "bidi ping-pong, small messages", 1.0),
    (Work::Upload64kib, "upload into a sink, 64 KiB chunks", 1.0),
    (Work::Upload1mib, "upload into a sink, 1 MiB chunks", 1.0),
];

/// The other stacks.
const STACKS: [Contestant; 5] = [BareTonic, Connectrpc, GrpcGo, GrpcCpp, GrpcJava];

/// Single ratios.
const RATIOS: [(Work, &str, Contestant, By, f64); 5] = [
    (Work::ServerStreaming, "server stream, small messages", BareTonic, By::Clock, 1.1),
    (Work::ServerStreaming, "server stream, small messages", Connectrpc, By::Clock, 1.7),
    (Work::Unary64, "unary, 64 in flight", H2, By::Cpu, 0.6),
    (Work::Upload64kib, "upload into a sink, 64 KiB chunks", Tcp, By::Cpu, 0.8),
    (Work::Upload1mib, "upload into a sink, 1 MiB chunks", Tcp, By::Cpu, 0.8),
];

/// The time that a ratio is of.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Clock,
    Cpu,
}

impl By {
    fn of(self, rate: &Rate) -> Spread {
        match self {
            Self::Clock => rate.ratio_by_clock,
            Self::Cpu => rate.ratio,
        }
    }

    fn work(self, words: &str) -> String {
        match self {
            Self::Clock => format!("{words}, by the clock"),
            Self::Cpu => words.to_owned(),
        }
    }
}

impl Report {
    /// Holds what was measured against the goals.
    pub(crate) fn judge(&mut self) {
        let by = [(By::Cpu, ""), (By::Clock, "-clock")];
        let best = |work| by.map(|by| self.beside_the_best(work, by));
        let mut goals: Vec<_> = WORKS.into_iter().flat_map(best).collect();
        goals.extend([Work::Unary1, Work::BidiPingPong].map(|work| self.answers(work)));
        goals.push(self.grpc_go());
        goals.extend(RATIOS.into_iter().map(|goal| self.ratio(goal)));
        let columnar = Goal::new(
            COLUMNAR,
            "columnar items: 1,000 values in a message",
            "one message each",
            Bound::AtLeast(3.5),
            self.columnar(),
        );
        goals.push(columnar);
        let size = self
            .durable
            .as_ref()
            .map_or_else(String::new, |durable| format!(", {}", Unit::Bytes.text(durable.bytes as f64)));
        goals.push(Goal::new(
            "durable",
            &format!("upload to disk, verified and durable{size}"),
            "`cp` + `fsync`",
            Bound::AtLeast(0.8),
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
            Bound::BytesAtMost(150.0 * MIB),
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

    /// Held against the stack that comes closest, or is ahead.
    fn beside_the_best(&self, (work, words, bound): (Work, &str, f64), (by, suffix): (By, &str)) -> Goal {
        let rates = STACKS.into_iter().filter_map(|stack| self.rate(work, stack));
        let best = rates.min_by(|a, b| by.of(a).median.total_cmp(&by.of(b).median));
        let against = best.map_or_else(|| "the other stacks".to_owned(), |best| against(best.contestant));
        let measured = best.map(|best| by.of(best));
        let key = format!("{}{suffix}", name(work));
        Goal::new(&key, &by.work(words), &against, Bound::AtLeast(bound), measured)
    }

    /// The time of an answer with one message at a time.
    fn answers(&self, work: Work) -> Goal {
        let answers = self.rate(work, BareTonic).and_then(|rate| rate.answers.as_ref());
        let (key, words) = (format!("{}-p50", name(work)), format!("p50 of an answer, {}", words(work)));
        Goal::new(&key, &words, &against(BareTonic), Bound::AtMost(1.0), answers.map(|of| of.ratio))
    }

    /// The row in which grpc-go comes closest.
    fn grpc_go(&self) -> Goal {
        let rates = WORKS.into_iter().filter_map(|(work, ..)| self.rate(work, GrpcGo));
        let least = rates.map(|rate| rate.ratio).min_by(|a, b| a.median.total_cmp(&b.median));
        Goal::new("grpc-go", "the work with the least ratio", &against(GrpcGo), Bound::AtLeast(2.0), least)
    }

    fn ratio(&self, (work, words, contestant, by, bound): (Work, &str, Contestant, By, f64)) -> Goal {
        let measured = self.rate(work, contestant).map(|rate| by.of(rate));
        let key = format!("{}-{}", name(work), name(contestant));
        Goal::new(&key, &by.work(words), &against(contestant), Bound::AtLeast(bound), measured)
    }

    fn columnar(&self) -> Option<Spread> {
        let rounds = |work| self.rate(work, Ours).map(|rate| &rate.rounds_per_cpu_second);
        Spread::ratio(rounds(Work::Columnar)?, rounds(Work::Values)?)
    }

    fn rate(&self, work: Work, contestant: Contestant) -> Option<&Rate> {
        self.rates.iter().find(|rate| rate.work == work && rate.contestant == contestant)
    }
}

fn words(work: Work) -> &'static str {
    WORKS.into_iter().find(|(there, ..)| *there == work).map_or("", |(_, words, _)| words)
}

fn against(contestant: Contestant) -> String {
    match contestant {
        BareTonic => "bare tonic, defaults".to_owned(),
        H2 => "h2 alone".to_owned(),
        Tcp => "raw TCP".to_owned(),
        other => name(other),
    }
}
