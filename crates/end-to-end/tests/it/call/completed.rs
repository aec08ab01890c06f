//! What shells complete from a running server.

use std::time::{Duration, Instant};

use super::echo::Echo;
use crate::client;

/// What the last word of a command line may become.
fn completed(words: &[&str]) -> Vec<String> {
    let program = words.iter().fold(client("__complete"), |program, word| program.arg(word));
    let ended = program.run();
    assert_eq!((ended.stderr.as_str(), ended.code == Some(0)), ("", !ended.stdout.is_empty()), "{ended:?}");
    ended.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn services_and_methods_are_completed_from_the_server() {
    let echo = Echo::start();
    let address = echo.address.as_str();
    assert_eq!(completed(&["call", address, ""]), ["grpc.reflection.v1alpha.ServerReflection/", "t.Echo/"]);
    assert_eq!(completed(&["call", address, "t."]), ["t.Echo/"]);
    assert_eq!(completed(&["call", address, "t.Echo/E"]), ["t.Echo/Each", "t.Echo/Early", "t.Echo/Endless"]);
    assert_eq!(completed(&["-q", "call", "-H", "a:b", address, "t.Echo/Un"]), ["t.Echo/Unary"]);
    assert_eq!(completed(&["measure", address, "--call", "t.Echo/Un"]), ["t.Echo/Unary"]);
    // By what describes it, where there is no reflection, and nobody need be there.
    let descriptors = echo.descriptors.to_str().unwrap();
    assert_eq!(completed(&["call", "localhost:1", "--descriptors", descriptors, "t."]), ["t.Echo/"]);
    assert_eq!(
        completed(&["call", "localhost:1", "--descriptors", descriptors, "t.Echo/Tw"]),
        ["t.Echo/Twice"]
    );
    // A service with a slash after it is the service.
    let shown = client("call").arg(address).arg("t.Echo/").run().ok().stdout;
    assert!(shown.contains("service t.Echo {"), "{shown}");
}

#[test]
fn nothing_is_completed_where_nothing_of_a_server_belongs() {
    let echo = Echo::start();
    let address = echo.address.as_str();
    for words in [
        vec![],
        vec![""],
        vec!["call"],
        vec!["call", address],
        vec!["call", address, "x"],
        vec!["call", address, "t.Nothing/"],
        vec!["call", address, "t.Echo/Unary", ""],
        vec!["call", address, "t.Echo/Unary", "-d", ""],
        vec!["call", address, "--nonsense"],
        vec!["check", address, ""],
        vec!["call", "nonsense", ""],
        vec!["call", "127.0.0.1:1", ""],
    ] {
        assert_eq!(completed(&words), Vec::<String>::new(), "{words:?}");
    }
}

/// Who has pressed a key is not left waiting by a server that says nothing.
#[test]
fn completion_is_over_after_a_second() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let begun = Instant::now();
    assert_eq!(completed(&["call", &address, ""]), Vec::<String>::new());
    let took = begun.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(4)).contains(&took), "{took:?}");
}

#[test]
fn the_scripts_of_the_shells_ask_for_it() {
    for (shell, asks) in [
        ("bash", "_fourmodes() {\n    _fourmodes_names \"$1\" && return\n"),
        ("zsh", "_fourmodes() {\n    _fourmodes_names && return\n"),
        ("fish", "fourmodes __complete "),
    ] {
        let script = client("completions").arg(shell).run().ok().stdout;
        assert!(script.contains(asks), "{shell}:\n{script}");
    }
}
