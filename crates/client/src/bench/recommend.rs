//! Which way to take, from what was measured and nothing else.

use super::{
    report::Measured,
    ways::{Goal, Way},
};

/// What counts of a way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fact {
    pub(super) way: Way,
    /// Messages for each second.
    pub(super) rate: f64,
    /// CPU time of a message, in seconds: of both sides where both are known of
    /// all ways, else of the client.
    pub(super) cpu: f64,
    /// Seconds until half of the messages were answered.
    pub(super) p50: f64,
    /// … all but one of a hundred.
    pub(super) p99: f64,
    /// With a rate: whether it was kept.
    pub(super) kept: Option<bool>,
}

/// One sentence, what it is derived from, and what it costs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Recommendation {
    pub(super) goal: Goal,
    /// None, when it does not matter.
    pub(super) way: Option<Way>,
    pub(super) sentence: String,
    pub(super) reason: String,
    pub(super) price: String,
}

/// Of so many times as much one speaks; less may be chance.
const NOTABLE: f64 = 1.5;
/// Within this everything is alike.
const ALIKE: f64 = 1.3;
/// A round trip that takes so much longer than the work in it is waiting.
const WAITING: f64 = 10.0;

/// What can be said of one goal; nothing, when there is nothing to compare.
pub(super) fn of(goal: Goal, measured: &[Measured], size: u64) -> Option<Recommendation> {
    let figures = || {
        let of_goal = measured.iter().filter(|measured| measured.goal == goal);
        of_goal.filter_map(|measured| Some((measured.way, measured.outcome.as_ref().ok()?)))
    };
    let both = figures().all(|(_, figures)| figures.server_cpu().is_some());
    let facts: Vec<_> = figures()
        .map(|(way, figures)| Fact {
            way,
            rate: figures.rate(),
            cpu: figures.client_cpu().unwrap_or(f64::NAN)
                + figures.server_cpu().filter(|_| both).unwrap_or_default(),
            p50: figures.quantile(0.5),
            p99: figures.quantile(0.99),
            kept: figures.schedule.map(|schedule| schedule.kept),
        })
        .collect();
    recommend(goal, &facts, size, if both { "CPU time" } else { "CPU time here" })
}

fn recommend(goal: Goal, facts: &[Fact], size: u64, cpu: &str) -> Option<Recommendation> {
    let of = |way| facts.iter().find(|fact| fact.way == way).copied();
    let say = |way, sentence: String, reason: String, price: String| {
        Some(Recommendation { goal, way, sentence, reason, price })
    };
    if facts.len() < 2 {
        return None;
    }
    if facts.iter().any(|fact| fact.kept.is_some()) {
        return at_a_rate(goal, facts);
    }
    let fastest = facts.iter().copied().max_by(|a, b| a.rate.total_cmp(&b.rate))?;
    let slowest = facts.iter().copied().min_by(|a, b| a.rate.total_cmp(&b.rate))?;
    if fastest.rate <= ALIKE * slowest.rate {
        return say(
            None,
            "Choose by what you need, not for speed: all ways are alike.".to_owned(),
            format!(
                "with messages of {} the fastest ({}) is {} the slowest ({})",
                bytes(size),
                fastest.way.title(),
                times(fastest.rate / slowest.rate),
                slowest.way.title()
            ),
            "none; unary calls are the simplest, and a proxy can balance and repeat each of them".to_owned(),
        );
    }

    // The best stream that one can have in the same place as calls.
    let stream = match goal {
        Goal::Deliver => of(Way::ClientStreaming),
        Goal::Receive => of(Way::ServerStreaming),
    };
    let calls = of(Way::UnaryInFlight).or(of(Way::Unary));
    let simple = of(Way::Unary).map_or(String::new(), |unary| {
        format!("Up to about {} unary calls one at a time will do; for more, ", rate(unary.rate / 2.0))
    });
    let sentence = |what: &str| capitalised(&format!("{simple}{what}."));
    let against = |better: Fact, other: Fact| {
        let speed = format!(
            "{} of them pass, {} {}",
            rate(better.rate),
            times(better.rate / other.rate),
            match other.way {
                Way::UnaryInFlight => "as many as by unary calls in flight",
                Way::Unary => "as many as by unary calls one at a time",
                _ => "as many as one message each",
            }
        );
        match other.cpu / better.cpu {
            ratio if ratio.is_finite() && ratio >= NOTABLE => {
                format!("{speed}, and each takes {} of the {cpu}", part(ratio))
            }
            ratio if ratio.is_finite() && ratio > 0.0 => format!("{speed}, at about the same {cpu} each"),
            _ => speed,
        }
    };

    if let (Some(columnar), Some(stream)) = (of(Way::Columnar), stream)
        && columnar.rate >= NOTABLE * stream.rate
    {
        return say(
            Some(Way::Columnar),
            sentence("pack many into one message, as columns, and send those on a client stream"),
            against(columnar, stream),
            "a message waits for its batch, and what is in it has to fit into columns; without that take a \
             client stream, of which nothing is known of a single message before the end"
                .to_owned(),
        );
    }
    let better =
        |than: Fact| move |fact: Fact| fact.rate >= NOTABLE * than.rate || fact.cpu * NOTABLE <= than.cpu;
    if let Some((calls, stream)) = calls.zip(stream)
        && better(calls)(stream)
    {
        let (what, price) = match goal {
            Goal::Deliver => (
                "send them on a client stream",
                match of(Way::BidiPipelined) {
                    Some(bidi) => format!(
                        "what has arrived is known at the end alone; a bidirectional stream answers each, at {}",
                        rate(bidi.rate)
                    ),
                    None => "what has arrived is known at the end alone".to_owned(),
                },
            ),
            Goal::Receive => (
                "let the server stream them",
                "a stream that breaks has to know where to go on, and no proxy repeats it".to_owned(),
            ),
        };
        return say(Some(stream.way), sentence(what), against(stream, calls), price);
    }
    if let Some((calls, bidi)) = calls.zip(of(Way::BidiPipelined))
        && better(calls)(bidi)
    {
        return say(
            Some(Way::BidiPipelined),
            sentence("send them on a bidirectional stream, without waiting for the answers"),
            against(bidi, calls),
            "the stream has to be opened again, and its order kept, when it breaks".to_owned(),
        );
    }
    if let (Some(one), Some(many)) = (of(Way::Unary), of(Way::UnaryInFlight))
        && many.rate >= NOTABLE * one.rate
    {
        let waits = one.cpu * WAITING < one.p50;
        return say(
            Some(Way::UnaryInFlight),
            sentence("have several unary calls in flight; a stream gains nothing more"),
            format!(
                "{}, {} as many as one at a time, {}",
                rate(many.rate),
                times(many.rate / one.rate),
                match waits {
                    true => format!(
                        "which waits: a call takes {}, and its work a tenth of that or less",
                        time(one.p50)
                    ),
                    false => format!("of which each takes {}", time(one.p50)),
                }
            ),
            format!("each waits for the others: half of them take longer than {}", time(many.p50)),
        );
    }
    say(
        Some(fastest.way),
        format!("Take the fastest of what was measured: {}.", fastest.way.title()),
        format!(
            "{}, {} as many as by {}",
            rate(fastest.rate),
            times(fastest.rate / slowest.rate),
            slowest.way.title()
        ),
        "what else there is was not measured: leave --only out".to_owned(),
    )
}

/// With a rate the question is another one: what is the simplest way to keep it?
fn at_a_rate(goal: Goal, facts: &[Fact]) -> Option<Recommendation> {
    /// From the simplest one on.
    const SIMPLEST: [Way; 7] = [
        Way::Unary,
        Way::UnaryInFlight,
        Way::ServerStreaming,
        Way::ClientStreaming,
        Way::BidiPingPong,
        Way::BidiPipelined,
        Way::Columnar,
    ];
    let in_order = || SIMPLEST.iter().filter_map(|way| facts.iter().find(|fact| fact.way == *way));
    let kept: Vec<_> = in_order().filter(|fact| fact.kept == Some(true)).collect();
    let missed: Vec<_> =
        in_order().filter(|fact| fact.kept == Some(false)).map(|fact| fact.way.title()).collect();
    let Some(first) = kept.first() else {
        let fastest = facts.iter().max_by(|a, b| a.rate.total_cmp(&b.rate))?;
        return Some(Recommendation {
            goal,
            way: None,
            sentence: "No way keeps this rate: ask for less, or for more --connections or --concurrency."
                .to_owned(),
            reason: format!("the fastest ({}) gets to {}", fastest.way.title(), rate(fastest.rate)),
            price: "none".to_owned(),
        });
    };
    let enough = first.way == Way::Unary;
    let others = match missed.is_empty() {
        true => "all ways keep it".to_owned(),
        false => format!("not kept by {}", missed.join(", ")),
    };
    Some(Recommendation {
        goal,
        way: Some(first.way),
        sentence: match enough {
            true => "Unary calls one at a time are enough for this rate, and the simplest.".to_owned(),
            false => format!("Take {}: the simplest way that keeps this rate.", first.way.title()),
        },
        reason: format!(
            "99 of 100 messages took {} or less from when they were due; {others}",
            time(first.p99)
        ),
        price: match enough {
            true => "a higher rate may need another way: measure it with --rate".to_owned(),
            false => "more is open at the same time than with one call after the other".to_owned(),
        },
    })
}

fn rate(rate: f64) -> String {
    shared_chart::Unit::PerSecond.text(rate)
}

fn time(seconds: f64) -> String {
    shared_chart::Unit::Seconds.text(seconds)
}

fn bytes(bytes: u64) -> String {
    shared_chart::Unit::Bytes.text(bytes as f64)
}

fn times(ratio: f64) -> String {
    match ratio {
        _ if ratio >= 10.0 => format!("{ratio:.0} times"),
        _ => format!("{ratio:.1} times"),
    }
}

fn part(ratio: f64) -> String {
    match ratio {
        _ if ratio >= 10.0 => format!("1/{ratio:.0}"),
        _ => format!("1/{ratio:.1}"),
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(way: Way, rate: f64, cpu_us: f64) -> Fact {
        Fact { way, rate, cpu: cpu_us / 1e6, p50: 64.0 / rate, p99: 100.0 / rate, kept: None }
    }

    fn said(goal: Goal, facts: &[Fact]) -> Recommendation {
        recommend(goal, facts, 128, "CPU time").unwrap()
    }

    const UNARY: Fact = Fact { way: Way::Unary, rate: 12e3, cpu: 80e-6, p50: 80e-6, p99: 1e-4, kept: None };

    #[test]
    fn a_stream_that_saves_work_is_recommended_with_its_price() {
        let facts = [
            UNARY,
            fact(Way::UnaryInFlight, 40e3, 45.0),
            fact(Way::ClientStreaming, 2e6, 0.9),
            fact(Way::BidiPipelined, 600e3, 3.0),
            fact(Way::Columnar, 2.2e6, 0.9),
        ];
        let said = said(Goal::Deliver, &facts);
        assert_eq!(said.way, Some(Way::ClientStreaming));
        assert_eq!(
            said.sentence,
            "Up to about 6k/s unary calls one at a time will do; for more, send them on a client stream."
        );
        assert_eq!(
            said.reason,
            "2M/s of them pass, 50 times as many as by unary calls in flight, and each takes 1/50 of the CPU time"
        );
        assert!(said.price.ends_with("a bidirectional stream answers each, at 600k/s"), "{}", said.price);
    }

    #[test]
    fn a_batch_is_recommended_where_it_beats_a_stream() {
        let facts = [UNARY, fact(Way::ClientStreaming, 2e6, 0.9), fact(Way::Columnar, 9e6, 0.2)];
        let said = said(Goal::Deliver, &facts);
        assert_eq!(said.way, Some(Way::Columnar));
        assert!(said.reason.contains("4.5 times as many as one message each"), "{}", said.reason);
    }

    #[test]
    fn large_messages_make_all_ways_alike() {
        let facts = [
            fact(Way::UnaryInFlight, 1000.0, 900.0),
            fact(Way::ClientStreaming, 1200.0, 800.0),
            fact(Way::BidiPipelined, 1100.0, 850.0),
        ];
        let said = said(Goal::Deliver, &facts);
        assert_eq!(said.way, None);
        assert!(said.reason.contains("1.2 times the slowest (unary in flight)"), "{}", said.reason);
    }

    #[test]
    fn where_waiting_is_all_several_in_flight_are_enough() {
        let far = Fact { p50: 20e-3, ..fact(Way::Unary, 50.0, 90.0) };
        let facts = [
            far,
            Fact { p50: 21e-3, ..fact(Way::UnaryInFlight, 3000.0, 90.0) },
            fact(Way::BidiPipelined, 3100.0, 70.0),
        ];
        let said = said(Goal::Deliver, &facts);
        assert_eq!(said.way, Some(Way::UnaryInFlight));
        assert!(
            said.reason.contains("60 times as many as one at a time, which waits: a call takes 20 ms"),
            "{}",
            said.reason
        );
    }

    #[test]
    fn what_is_received_is_streamed_by_the_server() {
        let facts = [UNARY, fact(Way::UnaryInFlight, 40e3, 45.0), fact(Way::ServerStreaming, 1e6, 2.0)];
        assert_eq!(said(Goal::Receive, &facts).way, Some(Way::ServerStreaming));
    }

    #[test]
    fn a_bidirectional_stream_is_recommended_where_there_is_no_other() {
        let facts = [UNARY, fact(Way::UnaryInFlight, 40e3, 45.0), fact(Way::BidiPipelined, 600e3, 3.0)];
        assert_eq!(said(Goal::Deliver, &facts).way, Some(Way::BidiPipelined));
    }

    #[test]
    fn at_a_rate_the_simplest_way_that_keeps_it_is_enough() {
        let kept = |fact: Fact, kept| Fact { kept: Some(kept), ..fact };
        let all = [kept(UNARY, true), kept(fact(Way::ClientStreaming, 12e3, 0.9), true)];
        assert_eq!(said(Goal::Deliver, &all).way, Some(Way::Unary));
        let some = [kept(UNARY, false), kept(fact(Way::UnaryInFlight, 30e3, 40.0), true)];
        let some = said(Goal::Deliver, &some);
        assert_eq!(some.way, Some(Way::UnaryInFlight));
        assert!(some.reason.ends_with("not kept by unary one at a time"), "{}", some.reason);
        let none = [kept(UNARY, false), kept(fact(Way::UnaryInFlight, 30e3, 40.0), false)];
        assert_eq!(said(Goal::Deliver, &none).way, None);
    }

    #[test]
    fn of_one_way_alone_nothing_can_be_said() {
        assert_eq!(recommend(Goal::Deliver, &[UNARY], 128, "CPU time"), None);
    }

    #[test]
    fn cpu_time_that_is_not_known_is_not_spoken_of() {
        let unknown = |fact: Fact| Fact { cpu: f64::NAN, ..fact };
        let facts = [unknown(UNARY), unknown(fact(Way::ClientStreaming, 2e6, 0.0))];
        let said = said(Goal::Deliver, &facts);
        assert_eq!(said.way, Some(Way::ClientStreaming));
        assert!(!said.reason.contains("CPU"), "{}", said.reason);
    }
}
