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

#[test]
fn the_tour_leaves_alone_what_people_have_on_the_server() {
    let server = Server::start();
    let deliver = || {
        let readings = server.client("client-streaming readings - --output json -q");
        let table = "device,time,value\nkitchen,0,21\ncellar,0,12\n";
        let value = readings.args("--producer once").stdin(table).run().ok().result()["value"].clone();
        value["devices"].clone()
    };
    let files = || server.client("unary files --output json -q").run().ok().result()["value"].clone();
    let state = || {
        let status = server.client("unary status --output json -q").run().ok().result()["value"].clone();
        let kept = status["state"].as_array().unwrap().clone();
        // What the market makes is nobody's, and devices keep their names.
        kept.into_iter()
            .filter(|kind| kind["kind"] != "quotes" && kind["kind"] != "devices")
            .collect::<Vec<_>>()
    };
    let before = (deliver(), files());
    let kept = state();
    for _ in 0..2 {
        server.client("tour -q").run().ok();
    }
    assert_eq!((deliver(), files()), before);
    assert_eq!(state(), kept);
    assert_eq!(before.0.as_array().unwrap().len(), 2);
}

#[test]
fn a_call_that_the_demonstration_cancels_has_ended_when_it_says_so() {
    let server = Server::start();
    let result = server.client("server-streaming --output json").run().ok().result();
    let steps = result["value"]["modes"][0]["steps"].as_array().unwrap().clone();
    let cancelled = steps.iter().find(|step| step["shown"].as_str().unwrap().contains("cancelled")).unwrap();
    assert!(cancelled["shown"].as_str().unwrap().contains("the server has ended the call"), "{cancelled}");
    assert_eq!(server.status(Mode::ServerStreaming).calls_open, 0);
}
