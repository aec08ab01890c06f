//! Calls that any server can answer: none of them may fail, whichever server is
//! away.

use std::collections::BTreeMap;

use crate::{Worker, errands::Runner, world::Address};

/// What comes back from a call is the server that has answered it.
struct Calls(Runner<String>);

pub(crate) fn workers(servers: &Address) -> Vec<Box<dyn Worker>> {
    let calls = |_| {
        let servers = servers.clone();
        Box::new(Calls(Runner::start(move |n| multiply(&servers, n)))) as Box<dyn Worker>
    };
    (0..2).map(calls).collect()
}

fn multiply(servers: &Address, n: u64) -> String {
    // Time enough on any machine: what is promised is that there is an answer.
    let lines = servers.lines(&format!("unary multiply {n} 3 --deadline 30s"), None);
    let result = lines.last().unwrap();
    assert_eq!(result["value"]["product"], n * 3, "a call has failed: {lines:?}");
    let connected = lines.iter().rfind(|line| line["type"] == "connected").unwrap();
    connected["server"].as_str().unwrap().to_owned()
}

impl Worker for Calls {
    fn name(&self) -> String {
        "calls".to_owned()
    }

    fn progress(&self) -> u64 {
        self.0.progress()
    }

    fn check(self: Box<Self>, servers: &Address) {
        let mut answered = BTreeMap::<_, u64>::new();
        for server in self.0.stop() {
            *answered.entry(server).or_default() += 1;
        }
        println!("answered by {answered:?}");
        assert_eq!(answered.len(), servers.count(), "a server had no calls: {answered:?}");
    }
}
