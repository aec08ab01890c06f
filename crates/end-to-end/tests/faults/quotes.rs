//! A feed that two clients watch, one of them only a part of it.

use serde_json::Value;

use crate::{
    Worker,
    world::{Address, Client},
};

#[derive(Default)]
struct Seen(Vec<(u64, String)>);

struct Watcher {
    client: Client<Seen>,
    all: bool,
}

pub(crate) fn workers(address: &Address) -> Vec<Box<dyn Worker>> {
    let watcher = |symbols: &str| {
        let arguments = format!("server-streaming quotes --count 0 --interval 5ms {symbols}");
        let client = Client::start(address.client(&arguments), Seen::see);
        Box::new(Watcher { client, all: symbols.is_empty() }) as Box<dyn Worker>
    };
    vec![watcher(""), watcher("--symbols ACME,FLUX")]
}

impl Seen {
    fn see(&mut self, line: Value) {
        let quote = &line["value"]["quote"];
        if let Some(sequence) = quote["sequence"].as_str() {
            self.0.push((sequence.parse().unwrap(), quote["epoch"].as_str().unwrap().to_owned()));
        }
    }
}

impl Worker for Watcher {
    fn name(&self) -> String {
        format!("quotes, {}", if self.all { "all" } else { "two symbols" })
    }

    fn progress(&self) -> u64 {
        self.client.seen().0.len() as u64
    }

    fn check(self: Box<Self>, _: &Address) {
        self.client.interrupt();
        let (result, Seen(seen)) = self.client.ended();
        let value = &result["value"];
        assert_eq!((&value["gaps"], &value["duplicates"]), (&0.into(), &0.into()), "{result}");
        assert!(seen.iter().all(|(_, epoch)| *epoch == seen[0].1), "the feed began anew");
        let sequences = seen.iter().map(|(sequence, _)| *sequence);
        match self.all {
            true => assert!(sequences.eq(seen[0].0..=seen.last().unwrap().0)),
            false => assert!(sequences.is_sorted_by(|one, next| one < next)),
        }
    }
}
