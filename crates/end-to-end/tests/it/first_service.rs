//! `docs/first-service.md`: what the page shows is what is built, and its commands
//! call it.

use std::{fs, net::SocketAddr, path::Path};

use tokio::{net::TcpListener, runtime::Runtime};

use crate::{client, documents::ROOT};

fn read(path: &str) -> String {
    fs::read_to_string(format!("{ROOT}/{path}")).unwrap()
}

/// The fenced blocks of one of these languages.
fn blocks(page: &str, languages: &[&str]) -> Vec<String> {
    let fenced = page.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
    fenced.filter(|(language, _)| languages.contains(language)).map(|(_, text)| text.to_owned()).collect()
}

#[test]
fn the_page_shows_the_files_as_they_are() {
    let shown = blocks(&read("docs/first-service.md"), &["toml", "rust", "proto"]);
    let files =
        ["Cargo.toml", "build.rs", "proto/stock.proto", "src/lib.rs", "src/main.rs", "tests/modes.rs"];
    assert_eq!(shown.len(), files.len());
    for (file, shown) in files.into_iter().zip(shown) {
        assert_eq!(shown, read(&format!("examples/first-service/{file}")), "{file} in docs/first-service.md");
    }
}

#[test]
fn the_handlers_of_choosing_are_those_of_the_first_service() {
    let service = read("examples/first-service/src/lib.rs");
    let handlers = blocks(&read("docs/choosing.md"), &["rust"]);
    assert_eq!(handlers.len(), 4);
    for handler in handlers {
        assert!(service.contains(&handler), "examples/first-service/src/lib.rs has no\n{handler}");
    }
}

#[test]
fn the_commands_of_the_page_call_the_first_service() {
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(first_service::serve(listener));

    let page = read("docs/first-service.md");
    let commands: Vec<_> = page.lines().filter(|line| line.starts_with("fourmodes call ")).collect();
    let [deliver, pick, ask, watch] = commands[..] else { panic!("not four calls: {commands:?}") };
    let call = |command| called(command, address);
    call(deliver).run().ok();
    call(pick).run().ok();
    let answer = call(ask).arg("--quiet").run().ok().stdout;
    assert_eq!(answer.trim(), r#"{"quantity":"7"}"#);
    let mut watching = call(watch).arg("--quiet").spawn();
    let seen = watching.lines().until("-3");
    assert!(seen.contains(r#""sequence":"2""#), "{seen}");
}

/// The program of a command of the page, with its server at this address.
fn called(command: &str, address: SocketAddr) -> test_support::Program {
    let command = command.replace("localhost:50060", &address.to_string());
    let mut program = client("").current_dir(Path::new(&format!("{ROOT}/examples/first-service")));
    // A shell takes what stands in quotes as one word.
    for (number, text) in command.strip_prefix("fourmodes ").unwrap().split('\'').enumerate() {
        program = if number % 2 == 0 { program.args(text) } else { program.arg(text) };
    }
    program
}
