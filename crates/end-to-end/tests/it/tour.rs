use grpc_wire::Mode;
use server::config::Config;
use test_support::BlockingServer as Server;

use crate::Called as _;

#[test]
fn the_tour_shows_all_four_modes_and_ends_in_a_table() {
    let server = Server::start();
    let text = server.client("tour").run().ok().stdout;
    for mode in Mode::ALL {
        assert!(text.lines().any(|line| line.starts_with(&format!("{mode:<18}ok"))), "no {mode} in:\n{text}");
    }
    let result = server.client("tour --output json").run().ok().result();
    let modes = result["value"]["modes"].as_array().unwrap();
    assert_eq!(modes.len(), 4);
    assert!(modes.iter().all(|mode| mode["ok"] == true && !mode["steps"].as_array().unwrap().is_empty()));
    assert_eq!((&result["mode"], &result["scenario"]), (&"all".into(), &"tour".into()));
}

#[test]
fn a_mode_without_a_scenario_demonstrates_itself_on_a_server_for_that_mode_alone() {
    for mode in Mode::ALL {
        let server = Server::with(Config { modes: vec![mode], ..Config::default() });
        let result = server.client(mode.name()).arg("--output=json").run().ok().result();
        assert_eq!((&result["mode"], &result["scenario"]), (&mode.name().into(), &"demonstration".into()));
        // Whoever has the others is told which command serves this one.
        for other in Mode::ALL.into_iter().filter(|other| *other != mode) {
            let words = ["UNIMPLEMENTED", &format!("server {other}"), "server all", "MODE_NOT_SERVED"];
            server.client(other.name()).run().failed(1, &words);
        }
    }
}

#[test]
fn a_tour_that_fails_says_where_and_goes_on() {
    let server = Server::with(Config { modes: vec![Mode::Unary, Mode::BidiStreaming], ..Config::default() });
    let ended = server.client("tour --output json").run().failed(1, &["UNIMPLEMENTED", "server-streaming"]);
    let modes = ended.result()["value"]["modes"].clone();
    let ok: Vec<_> = modes.as_array().unwrap().iter().map(|mode| mode["ok"].as_bool().unwrap()).collect();
    assert_eq!(ok, [true, false, false, true]);
}

#[test]
fn two_clients_have_two_connections() {
    let lines = Server::start().client("bidi-streaming --output json").run().ok().json();
    let connected = lines.iter().filter(|line| line["type"] == "connected");
    let clients: Vec<_> = connected.map(|line| line["call"].as_str().unwrap()).collect();
    // In a room, and at a document.
    assert_eq!(clients, ["client", "ana", "ben", "ana", "ben"]);
}
