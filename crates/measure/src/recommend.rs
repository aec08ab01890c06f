//! Which way to take, from what was measured and nothing else.

#[cfg(test)]
mod tests;

use crate::{
    pattern::{Goal, Pattern},
    report::Measured,
};

/// What counts of a way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fact {
    pub(crate) pattern: Pattern,
    /// Messages for each second.
    pub(crate) rate: f64,
    /// CPU time of a message, in seconds: of both sides where both are known of
    /// all ways, else of the client.
    pub(crate) cpu: f64,
    /// Seconds until half of the messages were answered.
    pub(crate) p50: f64,
    /// … all but one of a hundred.
    pub(crate) p99: f64,
    /// With a rate: whether it was kept.
    pub(crate) kept: Option<bool>,
}

/// One sentence, what it is derived from, and what it costs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recommendation {
    pub(crate) goal: Goal,
    /// None, when it does not matter.
    pub(crate) pattern: Option<Pattern>,
    pub(crate) sentence: String,
    pub(crate) reason: String,
    pub(crate) price: String,
}

/// Of so many times as much one speaks; less may be chance.
const NOTABLE: f64 = 1.5;
/// Within this everything is alike.
const ALIKE: f64 = 1.3;
/// A round trip that takes so much longer than the work in it is waiting.
const WAITING: f64 = 10.0;

/// What can be said of one goal; nothing, when there is nothing to compare.
pub(crate) fn of(goal: Goal, measured: &[Measured], size: u64) -> Option<Recommendation> {
    let figures = || {
        let of_goal = measured.iter().filter(|measured| measured.goal == goal);
        of_goal.filter_map(|measured| Some((measured.pattern, measured.outcome.as_ref().ok()?)))
    };
    if figures().next().is_none() && measured.iter().any(|measured| measured.goal == goal) {
        return Some(Recommendation {
            goal,
            pattern: None,
            sentence: format!("Nothing was measured of messages of {}.", bytes(size)),
            reason: "each way was left out, for what is said beside it".to_owned(),
            price: "none".to_owned(),
        });
    }
    let both = figures().all(|(_, figures)| figures.server_cpu().is_some());
    let facts: Vec<_> = figures()
        .map(|(pattern, figures)| Fact {
            pattern,
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
    let of = |pattern| facts.iter().find(|fact| fact.pattern == pattern).copied();
    let say = |pattern, sentence: String, reason: String, price: String| {
        Some(Recommendation { goal, pattern, sentence, reason, price })
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
                fastest.pattern.title(),
                times(fastest.rate / slowest.rate),
                slowest.pattern.title()
            ),
            "none; unary calls are the simplest, and a proxy can balance and repeat each of them".to_owned(),
        );
    }

    // The best stream that one can have in the same place as calls.
    let stream = match goal {
        Goal::Deliver => of(Pattern::ClientStreaming),
        Goal::Receive => of(Pattern::ServerStreaming),
    };
    let calls = of(Pattern::UnaryInFlight).or(of(Pattern::Unary));
    let simple = of(Pattern::Unary).map_or(String::new(), |unary| {
        format!(
            "Up to about {} unary calls one at a time will do; for more, ",
            rate(roughly(unary.rate / 2.0))
        )
    });
    let sentence = |what: &str| capitalised(&format!("{simple}{what}."));
    let against = |better: Fact, other: Fact| {
        let speed = format!(
            "{} of them pass, {} {}",
            rate(better.rate),
            times(better.rate / other.rate),
            match other.pattern {
                Pattern::UnaryInFlight => "as many as by unary calls in flight",
                Pattern::Unary => "as many as by unary calls one at a time",
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

    if let (Some(columnar), Some(stream)) = (of(Pattern::Columnar), stream)
        && columnar.rate >= NOTABLE * stream.rate
    {
        return say(
            Some(Pattern::Columnar),
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
                match of(Pattern::BidiPipelined) {
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
        return say(Some(stream.pattern), sentence(what), against(stream, calls), price);
    }
    if let Some((calls, bidi)) = calls.zip(of(Pattern::BidiPipelined))
        && better(calls)(bidi)
    {
        return say(
            Some(Pattern::BidiPipelined),
            sentence("send them on a bidirectional stream, without waiting for the answers"),
            against(bidi, calls),
            "the stream has to be opened again, and its order kept, when it breaks".to_owned(),
        );
    }
    if let (Some(one), Some(many)) = (of(Pattern::Unary), of(Pattern::UnaryInFlight))
        && many.rate >= NOTABLE * one.rate
    {
        let waits = one.cpu * WAITING < one.p50;
        return say(
            Some(Pattern::UnaryInFlight),
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
        Some(fastest.pattern),
        format!("Take the fastest of what was measured: {}.", fastest.pattern.title()),
        format!(
            "{}, {} as many as by {}",
            rate(fastest.rate),
            times(fastest.rate / slowest.rate),
            slowest.pattern.title()
        ),
        "not known: ways that might be better were left out, by --only or for the reason above".to_owned(),
    )
}

/// With a rate the question is another one: what is the simplest way to keep it?
fn at_a_rate(goal: Goal, facts: &[Fact]) -> Option<Recommendation> {
    /// From the simplest one on.
    const SIMPLEST: [Pattern; 7] = [
        Pattern::Unary,
        Pattern::UnaryInFlight,
        Pattern::ServerStreaming,
        Pattern::ClientStreaming,
        Pattern::BidiPingPong,
        Pattern::BidiPipelined,
        Pattern::Columnar,
    ];
    let in_order =
        || SIMPLEST.iter().filter_map(|pattern| facts.iter().find(|fact| fact.pattern == *pattern));
    let kept: Vec<_> = in_order().filter(|fact| fact.kept == Some(true)).collect();
    let missed: Vec<_> =
        in_order().filter(|fact| fact.kept == Some(false)).map(|fact| fact.pattern.title()).collect();
    let Some(first) = kept.first() else {
        let fastest = facts.iter().max_by(|a, b| a.rate.total_cmp(&b.rate))?;
        return Some(Recommendation {
            goal,
            pattern: None,
            sentence: "None of what was measured keeps this rate: ask for less, or for more --connections or --concurrency."
                .to_owned(),
            reason: format!("the fastest ({}) gets to {}", fastest.pattern.title(), rate(fastest.rate)),
            price: "none".to_owned(),
        });
    };
    let enough = first.pattern == Pattern::Unary;
    let others = match missed.is_empty() {
        true => "all ways keep it".to_owned(),
        false => format!("not kept by {}", missed.join(", ")),
    };
    Some(Recommendation {
        goal,
        pattern: Some(first.pattern),
        sentence: match enough {
            true => "Unary calls one at a time are enough for this rate, and the simplest.".to_owned(),
            false => format!("Take {}: the simplest way that keeps this rate.", first.pattern.title()),
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

/// To one digit.
fn roughly(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    (value / power).round() * power
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
