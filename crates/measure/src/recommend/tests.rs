use super::*;

fn fact(pattern: Pattern, rate: f64, cpu_us: f64) -> Fact {
    Fact { pattern, rate, cpu: cpu_us / 1e6, p50: 64.0 / rate, p99: 100.0 / rate, kept: None }
}

fn said(goal: Goal, facts: &[Fact]) -> Recommendation {
    recommend(goal, facts, 128, "CPU time").unwrap()
}

const UNARY: Fact =
    Fact { pattern: Pattern::Unary, rate: 12e3, cpu: 80e-6, p50: 80e-6, p99: 1e-4, kept: None };

#[test]
fn a_stream_that_saves_work_is_recommended_with_its_price() {
    let facts = [
        UNARY,
        fact(Pattern::UnaryInFlight, 40e3, 45.0),
        fact(Pattern::ClientStreaming, 2e6, 0.9),
        fact(Pattern::BidiPipelined, 600e3, 3.0),
        fact(Pattern::Columnar, 2.2e6, 0.9),
    ];
    let said = said(Goal::Deliver, &facts);
    assert_eq!(said.pattern, Some(Pattern::ClientStreaming));
    assert_eq!(
        said.sentence,
        "Below about 6k/s, sequential unary calls are enough; above that, send the messages on a client stream."
    );
    assert_eq!(
        said.reason,
        "2M/s, 50 times as many as with unary calls in flight, and 1/50 of the CPU time for each"
    );
    assert!(said.price.ends_with("a bidirectional stream answers each, at 600k/s"), "{}", said.price);
}

#[test]
fn a_batch_is_recommended_where_it_beats_a_stream() {
    let facts = [UNARY, fact(Pattern::ClientStreaming, 2e6, 0.9), fact(Pattern::Columnar, 9e6, 0.2)];
    let said = said(Goal::Deliver, &facts);
    assert_eq!(said.pattern, Some(Pattern::Columnar));
    assert!(said.reason.contains("4.5 times as many as with one message each"), "{}", said.reason);
}

#[test]
fn large_messages_make_all_ways_alike() {
    let facts = [
        fact(Pattern::UnaryInFlight, 1000.0, 900.0),
        fact(Pattern::ClientStreaming, 1200.0, 800.0),
        fact(Pattern::BidiPipelined, 1100.0, 850.0),
    ];
    let said = said(Goal::Deliver, &facts);
    assert_eq!(said.pattern, None);
    assert!(said.reason.contains("1.2 times the slowest (unary in flight)"), "{}", said.reason);
}

#[test]
fn where_waiting_is_all_several_in_flight_are_enough() {
    let far = Fact { p50: 20e-3, ..fact(Pattern::Unary, 50.0, 90.0) };
    let facts = [
        far,
        Fact { p50: 21e-3, ..fact(Pattern::UnaryInFlight, 3000.0, 90.0) },
        fact(Pattern::BidiPipelined, 3100.0, 70.0),
    ];
    let said = said(Goal::Deliver, &facts);
    assert_eq!(said.pattern, Some(Pattern::UnaryInFlight));
    assert!(
        said.reason.contains("60 times as many as sequential calls, which wait: a call takes 20 ms"),
        "{}",
        said.reason
    );
}

#[test]
fn what_is_received_is_streamed_by_the_server() {
    let facts = [UNARY, fact(Pattern::UnaryInFlight, 40e3, 45.0), fact(Pattern::ServerStreaming, 1e6, 2.0)];
    assert_eq!(said(Goal::Receive, &facts).pattern, Some(Pattern::ServerStreaming));
}

#[test]
fn a_bidirectional_stream_is_recommended_where_there_is_no_other() {
    let facts = [UNARY, fact(Pattern::UnaryInFlight, 40e3, 45.0), fact(Pattern::BidiPipelined, 600e3, 3.0)];
    assert_eq!(said(Goal::Deliver, &facts).pattern, Some(Pattern::BidiPipelined));
}

#[test]
fn at_a_rate_the_simplest_way_that_keeps_it_is_enough() {
    let kept = |fact: Fact, kept| Fact { kept: Some(kept), ..fact };
    let all = [kept(UNARY, true), kept(fact(Pattern::ClientStreaming, 12e3, 0.9), true)];
    assert_eq!(said(Goal::Deliver, &all).pattern, Some(Pattern::Unary));
    let some = [kept(UNARY, false), kept(fact(Pattern::UnaryInFlight, 30e3, 40.0), true)];
    let some = said(Goal::Deliver, &some);
    assert_eq!(some.pattern, Some(Pattern::UnaryInFlight));
    assert!(some.reason.ends_with("not kept by unary one at a time"), "{}", some.reason);
    let none = [kept(UNARY, false), kept(fact(Pattern::UnaryInFlight, 30e3, 40.0), false)];
    assert_eq!(said(Goal::Deliver, &none).pattern, None);
}

#[test]
fn where_ways_are_missing_the_fastest_is_not_called_the_best() {
    let facts = [fact(Pattern::BidiPingPong, 3700.0, 130.0), fact(Pattern::ClientStreaming, 15e3, 60.0)];
    let said = said(Goal::Deliver, &facts);
    assert_eq!(said.sentence, "Use the fastest measured way: client streaming.");
    assert!(said.price.starts_with("unknown"), "{}", said.price);
}

#[test]
fn of_one_way_alone_nothing_can_be_said() {
    assert_eq!(recommend(Goal::Deliver, &[UNARY], 128, "CPU time"), None);
}

#[test]
fn cpu_time_that_is_not_known_is_not_spoken_of() {
    let unknown = |fact: Fact| Fact { cpu: f64::NAN, ..fact };
    let facts = [unknown(UNARY), unknown(fact(Pattern::ClientStreaming, 2e6, 0.0))];
    let said = said(Goal::Deliver, &facts);
    assert_eq!(said.pattern, Some(Pattern::ClientStreaming));
    assert!(!said.reason.contains("CPU"), "{}", said.reason);
}
