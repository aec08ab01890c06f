use std::{
    collections::HashSet,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread,
};

use serde_json::Value;
use test_support::{BlockingServer as Server, Killable, eventually};

use crate::Called as _;

fn submitted(server: &Server, arguments: &str) -> Value {
    let ended = server.client(&format!("unary submit {arguments} --output json -q")).run();
    ended.ok().result()["value"].clone()
}

#[test]
fn a_task_is_submitted_watched_and_asked_for() {
    let server = Server::start();
    let task = submitted(&server, "primes --below 1000000");
    let id = task["id"].as_str().unwrap();
    assert_eq!(task["work"], "primes below 1,000,000");
    assert!(task["request_id"].as_str().unwrap().len() == 36, "{task}");
    let watched = server.client(&format!("server-streaming task {id} --output json")).run().ok().result();
    assert_eq!((&watched["mode"], &watched["scenario"]), (&"server-streaming".into(), &"task".into()));
    let value = &watched["value"];
    assert_eq!((&value["id"], &value["state"]), (&id.into(), &"SUCCEEDED".into()));
    assert_eq!((&value["primes"], &value["reconnects"]), (&78_498.into(), &0.into()));
    assert!(value["updates"].as_u64() >= Some(1), "{value}");
    let asked = server.client(&format!("unary task {id}")).run().ok().stdout;
    assert!(
        asked.ends_with(&format!("\ntask {id} is SUCCEEDED: primes below 1,000,000: 78,498\n")),
        "{asked}"
    );
}

#[test]
fn a_request_id_makes_one_task_and_is_refused_for_another() {
    let server = Server::start();
    let request = "--request-id 7c0d6a3f-9c7e-4d53-8a1c-2f5b7f0e1d42";
    let first = submitted(&server, &format!("primes --below 10 {request}"));
    let again = submitted(&server, &format!("{request} primes --below 10"));
    assert_eq!(first["id"], again["id"]);
    let reused = server.client(&format!("unary submit primes --below 11 {request}")).run();
    let words = ["INVALID_ARGUMENT", "REQUEST_ID_REUSED", "--request-id", first["id"].as_str().unwrap()];
    let reused = reused.failed(1, &words);
    assert!(!reused.stdout.contains("submit it again"), "{}", reused.stdout);
}

#[test]
fn a_task_that_is_cancelled_ends_for_who_watches_it() {
    let server = Server::start();
    let task = submitted(&server, "primes --below 100000000000");
    let id = task["id"].as_str().unwrap();
    let mut watch = server.client(&format!("server-streaming task {id} --output json")).spawn();
    let lines = watch.lines();
    lines.until(r#""from":"server","number":1,"#);
    for _ in 0..2 {
        let cancelled = server.client(&format!("unary cancel {id} --output json")).run().ok().result();
        assert_eq!(cancelled["value"]["state"], "CANCELLED");
    }
    let result: Value = serde_json::from_str(&lines.until(r#""type":"result""#)).unwrap();
    assert_eq!((&result["ok"], &result["value"]["state"]), (&true.into(), &"CANCELLED".into()));
    let done = submitted(&server, "primes --below 10");
    let id = done["id"].as_str().unwrap();
    server.client(&format!("server-streaming task {id}")).run().ok();
    server.client(&format!("unary cancel {id}")).run().failed(1, &["FAILED_PRECONDITION", "TASK_ENDED"]);
}

#[test]
fn a_checksum_of_what_is_not_there_fails_as_a_task_and_not_as_a_call() {
    let server = Server::start();
    let task = submitted(&server, "checksum --resource no/such/file");
    let id = task["id"].as_str().unwrap();
    let watched = server.client(&format!("server-streaming task {id} --output json")).run().ok().result();
    assert_eq!(watched["value"]["state"], "FAILED");
    assert_eq!(watched["value"]["error"]["code"], "NOT_FOUND");
}

#[test]
fn what_is_no_task_is_refused() {
    let server = Server::start();
    let unknown = "7c0d6a3f-9c7e-4d53-8a1c-2f5b7f0e1d42";
    for command in ["unary task", "unary cancel", "server-streaming task"] {
        let words = ["NOT_FOUND", "fourmodes.v1.Task", unknown];
        server.client(&format!("{command} {unknown}")).run().failed(1, &words);
        server.client(&format!("{command} 17")).run().failed(2, &["'17'", "UUID"]);
    }
    for (arguments, word) in [
        ("primes --below -1", "-1"),
        ("primes", "--below"),
        ("checksum", "--resource"),
        ("primes --below 1 --request-id 1", "UUID"),
        ("primes --below 1 --request-id 00000000-0000-0000-0000-000000000000", "UUID"),
    ] {
        server.client(&format!("unary submit {arguments}")).run().failed(2, &[word]);
    }
}

#[test]
fn submissions_and_watches_survive_a_server_that_is_killed_again_and_again() {
    const CLIENTS: usize = 4;
    const EACH: usize = 10;
    let directory = tempfile::tempdir().unwrap();
    let server = &Killable::start(crate::server("all --data-dir").arg(directory.path()));
    let [_, long] = submit_at(server, 100_000_000);
    let mut watch = server.client(&format!("server-streaming task {long} --output json")).spawn();
    let lines = watch.lines();
    lines.until(r#""from":"server","number":1,"#);

    let count = &AtomicUsize::new(0);
    let made = thread::scope(|scope| {
        let submissions = move || {
            let submission = |_| {
                let made = submit_at(server, 1_000);
                count.fetch_add(1, SeqCst);
                made
            };
            (0..EACH).map(submission).collect::<Vec<_>>()
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(submissions)).collect();
        for seen in [0, 10, 20] {
            eventually(|| count.load(SeqCst) >= seen, "nothing is submitted");
            server.restart();
        }
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    let tasks: HashSet<_> = made.iter().map(|[_, task]| task).collect();
    assert_eq!(tasks.len(), CLIENTS * EACH);
    for [request, task] in &made {
        let again = format!("unary submit primes --below 1000 --request-id {request} --output json -q");
        assert_eq!(server.client(&again).run().ok().result()["value"]["id"], task.as_str());
        let ended =
            server.client(&format!("server-streaming task {task} --output json -q")).run().ok().result();
        assert_eq!((&ended["value"]["state"], &ended["value"]["primes"]), (&"SUCCEEDED".into(), &168.into()));
    }
    let result: Value = serde_json::from_str(&lines.until(r#""type":"result""#)).unwrap();
    assert_eq!((&result["ok"], &result["value"]["primes"]), (&true.into(), &5_761_455.into()), "{result}");
    assert!(result["value"]["reconnects"].as_u64() >= Some(1), "{result}");
}

/// The request's id and the task's.
fn submit_at(server: &Killable, below: u64) -> [String; 2] {
    let arguments = format!("unary submit primes --below {below} --output json -q --deadline 30s");
    let result = server.client(&arguments).run().ok().result();
    ["request_id", "id"].map(|field| result["value"][field].as_str().unwrap().to_owned())
}
