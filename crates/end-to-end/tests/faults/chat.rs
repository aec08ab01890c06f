//! A room in which several clients talk all the time.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use serde_json::Value;

use crate::{
    Worker,
    world::{Address, Client, Typist},
};

const NAMES: [&str; 3] = ["ana", "ben", "cat"];

#[derive(Default)]
struct Heard {
    /// Sequence to who and text, of posts.
    posts: BTreeMap<u64, (String, String)>,
    sequences: Vec<u64>,
    accepted: Vec<u64>,
}

struct Member {
    name: &'static str,
    client: Client<Heard>,
    typist: Typist,
}

/// Members that say something every few milliseconds.
pub(crate) fn workers(address: &Address) -> Vec<Box<dyn Worker>> {
    members(address, Duration::from_millis(4))
}

pub(crate) fn members(address: &Address, pause: Duration) -> Vec<Box<dyn Worker>> {
    let member = |name: &'static str| {
        let arguments = format!("bidi-streaming chat --room faults --name {name} --after-sequence 0");
        let mut client = Client::start(address.client(&arguments), Heard::see);
        let typist = Typist::start(client.stdin(), pause, move |n| format!("{name} {n}"));
        Box::new(Member { name, client, typist }) as Box<dyn Worker>
    };
    NAMES.map(member).into()
}

impl Heard {
    fn see(&mut self, line: Value) {
        let value = &line["value"];
        if let Some(sequence) = value["accepted"]["sequence"].as_str() {
            self.accepted.push(sequence.parse().unwrap());
        }
        let event = &value["event"];
        if let Some(sequence) = event["sequence"].as_str() {
            let sequence = sequence.parse().unwrap();
            self.sequences.push(sequence);
            if let Some(text) = event["posted"]["text"].as_str() {
                let who = event["name"].as_str().unwrap().to_owned();
                self.posts.insert(sequence, (who, text.to_owned()));
            }
        }
    }
}

impl Worker for Member {
    fn name(&self) -> String {
        format!("chat of {}", self.name)
    }

    fn progress(&self) -> u64 {
        self.client.seen().accepted.len() as u64
    }

    fn asked(&self) -> u64 {
        self.typist.typed()
    }

    fn check(self: Box<Self>, _: &Address) {
        let Self { name, client, typist } = *self;
        let typed = typist.stop();
        let (result, heard) = client.ended();
        let value = &result["value"];
        assert_eq!(result["ok"], true, "{result}");
        assert_eq!((&value["gaps"], &value["duplicates"]), (&0.into(), &0.into()), "{result}");
        assert_eq!((&value["posted"], &value["unaccepted"]), (&typed.into(), &0.into()), "{result}");
        // Everything from the beginning of the room to the own leaving, once.
        let last = *heard.sequences.last().unwrap();
        assert!(heard.sequences.iter().copied().eq(1..=last), "{name} did not hear each event once");
        // Each line is one post, in the order of typing.
        let own: Vec<_> = heard.posts.values().filter(|(who, _)| who == name).map(|(_, text)| text).collect();
        assert!(own.iter().copied().eq(&(0..typed).map(|n| format!("{name} {n}")).collect::<Vec<_>>()));
        let accepted: HashSet<_> = heard.accepted.iter().collect();
        assert!(accepted.iter().all(|sequence| heard.posts[sequence].0 == name));
        assert_eq!(accepted.len() as u64, typed);
    }
}
