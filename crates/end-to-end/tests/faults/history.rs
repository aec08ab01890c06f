//! Checks a record of what clients did and saw: is there one order of it all that a
//! single server could have had?
//!
//! The sequences of a room give its order, so no order has to be searched for. It is
//! compared with real time: what began after another event was known has the larger
//! sequence.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Instant,
};

/// An event that a client wanted a room to have.
#[derive(Debug, Clone)]
pub(crate) struct Append {
    /// No other append has the same.
    pub(crate) key: String,
    pub(crate) begun: Instant,
    /// When, and with which sequence. In doubt without: the room has it once, or not.
    pub(crate) acknowledged: Option<(Instant, u64)>,
}

/// An event that a client heard. What a client hears one after the other is a reading.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) at: Instant,
    pub(crate) sequence: u64,
    pub(crate) event: Event,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Joined { name: String, members: BTreeSet<String> },
    Left { name: String },
    Posted { name: String, text: String },
}

/// An answer about a task.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// The request that made the task.
    pub(crate) request: u128,
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    /// `None` when the server does not know the task.
    pub(crate) task: Option<(String, Fate)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    Open,
    /// With its result.
    Ended(String),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A reading goes on with another sequence than the next one.
    Gap { before: u64, after: u64 },
    /// Two readings have different events at one sequence.
    Disagree { sequence: u64 },
    /// An acknowledged append is not where its acknowledgement says.
    Lost { key: String },
    /// A room has an append twice.
    Twice { key: String },
    /// Nobody asked for this.
    Invented { key: String },
    /// `later` began when `earlier` was known, and has the smaller sequence.
    Order { earlier: String, later: String },
    /// The event is of somebody who is not in the room, or joins it a second time, or it
    /// names others than those who are there.
    Stranger { sequence: u64 },
    /// One request made two tasks, or two requests made one.
    Tasks { request: u128 },
    /// A task was not found, or had not ended, after it was known to be there, or to have ended.
    Stale { request: u128 },
    /// A task ended in two ways.
    Ends { request: u128 },
}

impl Event {
    /// The key of the append that asked for it, where clients record such appends.
    fn key(&self) -> Option<String> {
        match self {
            Self::Posted { text, .. } => Some(text.clone()),
            Self::Joined { name, .. } => Some(joining(name)),
            Self::Left { .. } => None,
        }
    }
}

/// The key of the append that is a joining.
pub(crate) fn joining(name: &str) -> String {
    format!("{name} joined")
}

/// Checks a room, all of which the readings have together.
pub(crate) fn check_room(appends: &[Append], readings: &[Vec<Heard>]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut room = BTreeMap::<u64, Heard>::new();
    for reading in readings {
        for (before, after) in reading.iter().zip(reading.iter().skip(1)) {
            if after.sequence != before.sequence + 1 {
                violations.push(Violation::Gap { before: before.sequence, after: after.sequence });
            }
        }
        for heard in reading {
            let known = room.entry(heard.sequence).or_insert_with(|| heard.clone());
            known.at = known.at.min(heard.at);
            if known.event != heard.event {
                violations.push(Violation::Disagree { sequence: heard.sequence });
            }
        }
    }
    let mut before = 0;
    for sequence in room.keys() {
        if *sequence != before + 1 {
            violations.push(Violation::Gap { before, after: *sequence });
        }
        before = *sequence;
    }
    let asked: HashMap<_, _> = appends.iter().map(|append| (append.key.as_str(), append)).collect();
    let mut places = HashMap::<String, Vec<u64>>::new();
    // The latest beginning so far.
    let mut latest: Option<&Append> = None;
    for (sequence, Heard { at, event, .. }) in &room {
        let Some(key) = event.key() else { continue };
        let Some(append) = asked.get(key.as_str()) else {
            if matches!(event, Event::Posted { .. }) {
                violations.push(Violation::Invented { key });
            }
            continue;
        };
        let known = append.acknowledged.map_or(*at, |(acknowledged, _)| acknowledged.min(*at));
        if let Some(later) = latest.filter(|later| known < later.begun) {
            violations.push(Violation::Order { earlier: key.clone(), later: later.key.clone() });
        }
        latest = latest.filter(|latest| latest.begun >= append.begun).or(Some(append));
        let places = places.entry(key.clone()).or_default();
        places.push(*sequence);
        if places.len() > 1 {
            violations.push(Violation::Twice { key });
        }
    }
    for Append { key, acknowledged, .. } in appends {
        let is_there = |(_, sequence)| places.get(key).is_some_and(|places| places.contains(&sequence));
        if !acknowledged.is_none_or(is_there) {
            violations.push(Violation::Lost { key: key.clone() });
        }
    }
    violations.extend(strangers(&room));
    violations
}

fn strangers(room: &BTreeMap<u64, Heard>) -> Vec<Violation> {
    let mut members = BTreeSet::new();
    let mut violations = Vec::new();
    for (sequence, Heard { event, .. }) in room {
        let fits = match event {
            Event::Joined { name, members: now } => members.insert(name.clone()) && members == *now,
            Event::Left { name } => members.remove(name),
            Event::Posted { name, .. } => members.contains(name),
        };
        if !fits {
            violations.push(Violation::Stranger { sequence: *sequence });
        }
    }
    violations
}

/// Checks tasks, each of which was made by the request that is known first.
pub(crate) fn check_tasks(answers: &[Answer]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let (mut tasks, mut requests) = (HashMap::new(), HashMap::new());
    // When a task was known to be there, and to have ended, and how.
    let mut there = HashMap::<u128, Instant>::new();
    let mut ends = HashMap::<u128, (Instant, &str)>::new();
    for Answer { request, ended, task, .. } in answers {
        let Some((task, fate)) = task else { continue };
        let first = *tasks.entry(request).or_insert(task) == task;
        if !first || *requests.entry(task).or_insert(request) != request {
            violations.push(Violation::Tasks { request: *request });
        }
        let known = there.entry(*request).or_insert(*ended);
        *known = (*known).min(*ended);
        if let Fate::Ended(how) = fate {
            let (known, first) = ends.entry(*request).or_insert((*ended, how));
            *known = (*known).min(*ended);
            if first != how {
                violations.push(Violation::Ends { request: *request });
            }
        }
    }
    for Answer { request, begun, task, .. } in answers {
        let after = |known: Option<Instant>| known.is_some_and(|known| known < *begun);
        let stale = match task {
            None => after(there.get(request).copied()),
            Some((_, Fate::Open)) => after(ends.get(request).map(|(known, _)| *known)),
            Some((_, Fate::Ended(_))) => false,
        };
        if stale {
            violations.push(Violation::Stale { request: *request });
        }
    }
    violations
}

mod tests {
    use std::time::{Duration, Instant};

    use super::{Answer, Append, Event, Fate, Heard, Violation, check_room, check_tasks, joining};

    /// Moments of a made-up history.
    struct Clock(Instant);

    impl Clock {
        fn at(&self, moment: u64) -> Instant {
            self.0 + Duration::from_secs(moment)
        }

        fn append(&self, key: &str, begun: u64, acknowledged: Option<(u64, u64)>) -> Append {
            let acknowledged = acknowledged.map(|(at, sequence)| (self.at(at), sequence));
            Append { key: key.to_owned(), begun: self.at(begun), acknowledged }
        }

        /// Events from a sequence on, all heard at one moment.
        fn reading(&self, at: u64, from: u64, events: &[Event]) -> Vec<Heard> {
            let heard =
                |(sequence, event): (u64, &Event)| Heard { at: self.at(at), sequence, event: event.clone() };
            (from..).zip(events).map(heard).collect()
        }

        fn answer(&self, request: u128, begun: u64, ended: u64, task: Option<(&str, Fate)>) -> Answer {
            let task = task.map(|(id, fate)| (id.to_owned(), fate));
            Answer { request, begun: self.at(begun), ended: self.at(ended), task }
        }
    }

    fn joined(name: &str, members: &[&str]) -> Event {
        let members = members.iter().map(|&name| name.to_owned()).collect();
        Event::Joined { name: name.to_owned(), members }
    }

    fn left(name: &str) -> Event {
        Event::Left { name: name.to_owned() }
    }

    fn posted(name: &str, text: &str) -> Event {
        Event::Posted { name: name.to_owned(), text: text.to_owned() }
    }

    fn ended(how: &str) -> Fate {
        Fate::Ended(how.to_owned())
    }

    fn lost(key: &str) -> Violation {
        Violation::Lost { key: key.to_owned() }
    }

    #[test]
    fn a_room_in_one_order_has_no_violations() {
        let clock = Clock(Instant::now());
        let appends = [
            clock.append(&joining("ana"), 0, Some((1, 1))),
            clock.append("a", 2, Some((5, 3))),
            // At the same time as the one above, and before it in the room.
            clock.append("b", 2, Some((6, 2))),
            // In doubt: one is there, the other one is not.
            clock.append("c", 6, None),
            clock.append("d", 6, None),
        ];
        let events = [
            joined("ana", &["ana"]),
            posted("ana", "b"),
            posted("ana", "a"),
            posted("ana", "c"),
            left("ana"),
        ];
        let readings = [clock.reading(9, 1, &events), clock.reading(7, 2, &events[1..4])];
        assert_eq!(check_room(&appends, &readings), []);
    }

    #[test]
    fn a_post_that_is_lost_or_twice_is_found() {
        let clock = Clock(Instant::now());
        let appends = [clock.append("a", 1, Some((2, 2))), clock.append("b", 1, Some((2, 3)))];
        let ana = joined("ana", &["ana"]);
        let check = |events: &[Event]| check_room(&appends, &[clock.reading(3, 1, events)]);
        assert_eq!(check(&[ana.clone(), posted("ana", "a"), posted("ana", "b")]), []);
        assert_eq!(check(&[ana.clone(), posted("ana", "a")]), [lost("b")]);
        // Somewhere else than what was acknowledged.
        assert_eq!(check(&[ana.clone(), posted("ana", "b"), posted("ana", "a")]), [lost("a"), lost("b")]);
        let twice = [ana.clone(), posted("ana", "a"), posted("ana", "b"), posted("ana", "b")];
        assert_eq!(check(&twice), [Violation::Twice { key: "b".to_owned() }]);
        let more = [ana, posted("ana", "a"), posted("ana", "b"), posted("ana", "c")];
        assert_eq!(check(&more), [Violation::Invented { key: "c".to_owned() }]);
    }

    #[test]
    fn readers_that_skip_or_disagree_are_found() {
        let clock = Clock(Instant::now());
        let appends = ["a", "b"].map(|key| clock.append(key, 1, None));
        let events = [joined("ana", &["ana"]), posted("ana", "a"), posted("ana", "b")];
        let whole = clock.reading(3, 1, &events);
        let mut skips = whole.clone();
        skips.remove(1);
        let gap = Violation::Gap { before: 1, after: 3 };
        assert_eq!(check_room(&appends, &[whole.clone(), skips.clone()]), [gap]);
        // Nobody has heard the second event.
        let gap = || Violation::Gap { before: 1, after: 3 };
        assert_eq!(check_room(&appends, &[skips]), [gap(), gap()]);
        // Nobody has heard the first one.
        let violations = check_room(&appends, &[whole[1..].to_vec()]);
        assert!(violations.contains(&Violation::Gap { before: 0, after: 2 }), "{violations:?}");
        let other = clock.reading(3, 2, &[posted("ana", "b"), posted("ana", "a")]);
        let disagree = [2, 3].map(|sequence| Violation::Disagree { sequence });
        assert_eq!(check_room(&appends, &[whole, other]), disagree);
    }

    #[test]
    fn an_order_that_contradicts_time_is_found() {
        let clock = Clock(Instant::now());
        let order = |earlier: &str, later: &str| {
            [Violation::Order { earlier: earlier.to_owned(), later: later.to_owned() }]
        };
        let events = [joined("ana", &["ana"]), posted("ana", "b"), posted("ana", "a")];
        let reading = [clock.reading(9, 1, &events)];
        let a = clock.append("a", 1, Some((2, 3)));
        // `a` was acknowledged before `b` began.
        assert_eq!(check_room(&[a, clock.append("b", 3, Some((4, 2)))], &reading), order("a", "b"));
        // Nobody has acknowledged `a`, but it was heard before `b` began.
        let in_doubt = [clock.append("a", 1, None), clock.append("b", 10, None)];
        assert_eq!(check_room(&in_doubt, &reading), order("a", "b"));
        // A reader that began after `a` was acknowledged is before it.
        let events = [joined("ana", &["ana"]), joined("ben", &["ana", "ben"]), posted("ana", "a")];
        let late = [clock.append("a", 1, Some((2, 3))), clock.append(&joining("ben"), 3, Some((4, 2)))];
        assert_eq!(check_room(&late, &[clock.reading(9, 1, &events)]), order("a", "ben joined"));
    }

    #[test]
    fn a_post_of_one_that_is_not_in_the_room_is_found() {
        let clock = Clock(Instant::now());
        let appends = [clock.append("a", 1, None)];
        let stranger = |sequence| [Violation::Stranger { sequence }];
        let check = |events: &[Event]| check_room(&appends, &[clock.reading(9, 1, events)]);
        let ana = joined("ana", &["ana"]);
        assert_eq!(check(&[ana.clone(), left("ana"), posted("ana", "a")]), stranger(3));
        assert_eq!(check(&[ana.clone(), left("ben")]), stranger(2));
        assert_eq!(check(&[ana.clone(), ana.clone()]), stranger(2));
        assert_eq!(check(&[ana, joined("ben", &["ben"])]), stranger(2));
    }

    #[test]
    fn tasks_in_one_order_have_no_violations() {
        let clock = Clock(Instant::now());
        let answers = [
            // Asked for before the task was known.
            clock.answer(1, 0, 9, None),
            clock.answer(1, 1, 2, Some(("one", Fate::Open))),
            clock.answer(1, 3, 5, Some(("one", ended("168")))),
            // At the same time as the one above.
            clock.answer(1, 4, 6, Some(("one", Fate::Open))),
            clock.answer(1, 7, 8, Some(("one", ended("168")))),
            clock.answer(2, 1, 2, Some(("two", Fate::Open))),
        ];
        assert_eq!(check_tasks(&answers), []);
    }

    #[test]
    fn a_task_that_is_twice_or_forgotten_or_goes_back_is_found() {
        let clock = Clock(Instant::now());
        let first = || clock.answer(1, 1, 2, Some(("one", Fate::Open)));
        let end = || clock.answer(1, 3, 4, Some(("one", ended("168"))));
        let check = |second: Answer| check_tasks(&[first(), end(), second]);
        assert_eq!(
            check(clock.answer(1, 5, 6, Some(("two", Fate::Open))))[0],
            Violation::Tasks { request: 1 }
        );
        assert_eq!(
            check(clock.answer(2, 5, 6, Some(("one", Fate::Open)))),
            [Violation::Tasks { request: 2 }]
        );
        assert_eq!(check(clock.answer(1, 5, 6, None)), [Violation::Stale { request: 1 }]);
        assert_eq!(
            check(clock.answer(1, 5, 6, Some(("one", Fate::Open)))),
            [Violation::Stale { request: 1 }]
        );
        assert_eq!(
            check(clock.answer(1, 3, 6, Some(("one", ended("169"))))),
            [Violation::Ends { request: 1 }]
        );
    }
}
