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
            sentence: format!("Nothing was measured with messages of {}.", bytes(size)),
            reason: "every way was skipped, for the reason beside it".to_owned(),
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
            "All ways are about equally fast: choose by your needs, not by speed.".to_owned(),
            format!(
                "with messages of {} the fastest ({}) is {} the slowest ({})",
                bytes(size),
                fastest.pattern.title(),
                times(fastest.rate / slowest.rate),
                slowest.pattern.title()
            ),
            "none; unary calls are the simplest, and a proxy can balance and retry each of them".to_owned(),
        );
    }

    // The best stream that one can have in the same place as calls.
    let stream = match goal {
        Goal::Deliver => of(Pattern::ClientStreaming),
        Goal::Receive => of(Pattern::ServerStreaming),
        Goal::Call => None,
    };
    let calls = of(Pattern::UnaryInFlight).or(of(Pattern::Unary));
    let simple = of(Pattern::Unary).map_or(String::new(), |unary| {
        format!(
            "Below about {}, sequential unary calls are enough; above that, ",
            rate(roughly(unary.rate / 2.0))
        )
    });
    let sentence = |what: &str| capitalised(&format!("{simple}{what}."));
    let against = |better: Fact, other: Fact| {
        let speed = format!(
            "{}, {} {}",
            rate(better.rate),
            times(better.rate / other.rate),
            match other.pattern {
                Pattern::UnaryInFlight => "as many as with unary calls in flight",
                Pattern::Unary => "as many as with sequential unary calls",
                _ => "as many as with one message each",
            }
        );
        match other.cpu / better.cpu {
            ratio if ratio.is_finite() && ratio >= NOTABLE => {
                format!("{speed}, and {} of the {cpu} for each", part(ratio))
            }
            ratio if ratio.is_finite() && ratio > 0.0 => {
                format!("{speed}, with about the same {cpu} for each")
            }
            _ => speed,
        }
    };

    if let (Some(columnar), Some(stream)) = (of(Pattern::Columnar), stream)
        && columnar.rate >= NOTABLE * stream.rate
    {
        return say(
            Some(Pattern::Columnar),
            sentence(
                "pack many values into one message, as columns, and send these messages on a client stream",
            ),
            against(columnar, stream),
            "a message waits for its batch, and the values must fit into columns; otherwise use a client \
             stream, which confirms no message before its end"
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
                "send the messages on a client stream",
                match of(Pattern::BidiPipelined) {
                    Some(bidi) => format!(
                        "arrival is confirmed only at the end; a bidirectional stream answers each, at {}",
                        rate(bidi.rate)
                    ),
                    None => "arrival is confirmed only at the end".to_owned(),
                },
            ),
            Goal::Receive | Goal::Call => (
                "let the server stream",
                "after a break, the client must say where to continue, and no proxy retries a stream"
                    .to_owned(),
            ),
        };
        return say(Some(stream.pattern), sentence(what), against(stream, calls), price);
    }
    if let Some((calls, bidi)) = calls.zip(of(Pattern::BidiPipelined))
        && better(calls)(bidi)
    {
        return say(
            Some(Pattern::BidiPipelined),
            sentence("send the messages on a bidirectional stream, without waiting for the answers"),
            against(bidi, calls),
            "after a break, the client must open a new stream and keep the order".to_owned(),
        );
    }
    if let (Some(one), Some(many)) = (of(Pattern::Unary), of(Pattern::UnaryInFlight))
        && many.rate >= NOTABLE * one.rate
    {
        let waits = one.cpu * WAITING < one.p50;
        return say(
            Some(Pattern::UnaryInFlight),
            sentence("keep several unary calls in flight; a stream gains nothing more"),
            format!(
                "{}, {} as many as sequential calls, {}",
                rate(many.rate),
                times(many.rate / one.rate),
                match waits {
                    true => format!(
                        "which wait: a call takes {}, but its work at most a tenth of that",
                        time(one.p50)
                    ),
                    false => format!("each of which takes {}", time(one.p50)),
                }
            ),
            format!("calls wait for each other: half of them take longer than {}", time(many.p50)),
        );
    }
    say(
        Some(fastest.pattern),
        format!("Use the fastest measured way: {}.", fastest.pattern.title()),
        format!(
            "{}, {} as many as with {}",
            rate(fastest.rate),
            times(fastest.rate / slowest.rate),
            slowest.pattern.title()
        ),
        "unknown: ways that may be better were skipped, by --only or for the reason above".to_owned(),
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
            sentence:
                "No measured way keeps this rate: lower it, or use more --connections or --concurrency."
                    .to_owned(),
            reason: format!("the fastest ({}) reaches {}", fastest.pattern.title(), rate(fastest.rate)),
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
            true => "Sequential unary calls are enough for this rate, and the simplest.".to_owned(),
            false => format!("Use {}: the simplest way that keeps this rate.", first.pattern.title()),
        },
        reason: format!("99 of 100 messages took at most {} from their due time; {others}", time(first.p99)),
        price: match enough {
            true => "a higher rate may need another way: measure it with --rate".to_owned(),
            false => "more is in flight at the same time than with sequential calls".to_owned(),
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
