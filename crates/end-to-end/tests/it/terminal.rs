//! A person at a terminal.
#![cfg(unix)]

use std::{
    fs::File,
    io::{Read as _, Write as _},
    process::{Child, Command},
    sync::{Arc, Mutex},
    thread,
};

use regex::Regex;
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};
use test_support::{BlockingServer as Server, eventually};

use crate::{Called as _, call::echo::Echo};

/// A client whose stdin and stdout are a terminal of 80 columns; stderr may be, too.
struct Terminal {
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
    device: File,
    client: Child,
}

impl Terminal {
    fn start(server: &Server, arguments: &str) -> Self {
        Self::at(server.url(), arguments)
    }

    fn at(url: &str, arguments: &str) -> Self {
        Self::with(url, arguments, false)
    }

    fn with(url: &str, arguments: &str, has_stderr: bool) -> Self {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        tcsetwinsize(&keyboard, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap().into_string().unwrap();
        let device = File::options().read(true).write(true).open(name).unwrap();
        let mut client = Command::new(env!("CARGO_BIN_EXE_end-to-end-client"));
        if has_stderr {
            client.stderr(device.try_clone().unwrap());
        }
        let client = client
            .args(arguments.split(' '))
            .env("FOURMODES_SERVER", url)
            .env("TERM", "xterm")
            .stdin(device.try_clone().unwrap())
            .stdout(device.try_clone().unwrap())
            .spawn()
            .unwrap();
        let keyboard = File::from(keyboard);
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (mut from, shown) = (keyboard.try_clone().unwrap(), screen.clone());
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut bytes) {
                shown.lock().unwrap().extend_from_slice(&bytes[..length]);
            }
        });
        Self { keyboard, screen, device, client }
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until this was shown, and forgets what was shown up to there.
    fn shows(&self, what: &str) {
        let escapes = Regex::new("\u{1b}\\[[0-9;?]*[A-Za-z]").unwrap();
        let shown = || {
            let mut screen = self.screen.lock().unwrap();
            let text = escapes.replace_all(&String::from_utf8_lossy(&screen), "").into_owned();
            let place = text.find(what);
            if let Some(place) = place {
                *screen = text[place + what.len()..].into();
            }
            place.is_some()
        };
        eventually(shown, &format!("{what:?} is not shown"));
    }

    fn ends_with(mut self, code: i32) {
        let mut status = None;
        let ended = || {
            status = self.client.try_wait().unwrap();
            status.is_some()
        };
        eventually(ended, "the client does not end");
        assert_eq!(status.unwrap().code(), Some(code));
        let modes = tcgetattr(&self.device).unwrap().local_modes;
        assert!(
            modes.contains(LocalModes::ECHO | LocalModes::ICANON),
            "the terminal is as it was: {modes:?}"
        );
    }
}

#[test]
fn a_line_that_is_typed_survives_what_others_say_and_can_be_edited() {
    let server = Server::start();
    let mut ana = Terminal::start(&server, "bidi-streaming chat --room r --name ana --plain");
    ana.shows("* ana joined");
    let mut ben = server.client("bidi-streaming chat --room r --name ben --plain").spawn();
    let ben_hears = ben.lines();
    ana.shows("* ben joined");
    ana.types("hexlo");
    ana.shows("hexlo");
    ben.say("hi");
    ana.shows("ben: hi");
    ana.shows("> hexlo");
    // Two to the left, and the wrong one away.
    ana.types("\u{1b}[D\u{1b}[D\u{7f}l\r");
    assert_eq!(ben_hears.until("ana: "), "ana: hello");
    ana.shows("ana: hello");
    // What is sent once can be sent again.
    ana.types("\u{1b}[A\r");
    assert_eq!(ben_hears.until("ana: "), "ana: hello");
    ana.types("not sent\u{3}");
    ana.ends_with(130);
}

#[test]
fn the_terminal_is_as_it_was_when_a_deadline_ends_a_line_in_the_middle() {
    let server = Server::start();
    let mut ana = Terminal::start(&server, "bidi-streaming chat --room r --name ana --deadline 3s");
    ana.shows("joined");
    ana.types("hel");
    ana.shows("hel");
    ana.ends_with(1);
}

#[test]
fn responses_appear_above_the_message_that_is_typed() {
    let echo = Echo::start();
    let mut each = Terminal::at(&echo.url, &format!("call {} t.Echo/Each -q --interactive", echo.url));
    each.shows("> ");
    each.types("{\"n\": 1}\r");
    each.shows("{\"n\":1}");
    each.shows("> ");
    // What is wrong is told above the line as well, and is not sent.
    each.types("{\"n\": x}\r");
    each.shows("not sent: line 2, column 7");
    each.shows("> ");
    each.types("{\"n\": 2}\r");
    each.shows("{\"n\":2}");
    each.shows("> ");
    each.types("\u{4}");
    each.ends_with(0);
    // The server ends the call while a line is typed.
    let early = Terminal::at(&echo.url, &format!("call {} t.Echo/Early -q --interactive", echo.url));
    early.shows("{\"n\":1}");
    early.ends_with(0);
    let mut never = Terminal::at(&echo.url, &format!("call {} t.Echo/Never --interactive", echo.url));
    never.shows("HEADERS /t.Echo/Never");
    never.shows("> ");
    never.types("{\"n\": 1}\r");
    never.shows("message 1  n: 1");
    // The key is a signal, and for others, until a line is edited again.
    never.shows("> ");
    never.types("{");
    never.shows("{");
    never.types("\u{3}");
    // What was sent before counts.
    never.shows("sent 1 message, 2 B; received 0 messages");
    never.ends_with(130);
}

#[test]
fn errors_and_tables_fit_the_terminal_and_break_between_words() {
    let server = Server::start();
    let address = server.url.trim_start_matches("http://");
    let nobody = test_support::Reserved::new();
    let measure = "--messages 20 --warmup 0s --call fourmodes.v1.MeasureService";
    let escapes = Regex::new("\u{1b}\\[[0-9;?]*[A-Za-z]").unwrap();
    let overflow = r#"{"a":9223372036854775807,"b":7}"#;
    for (arguments, has_stderr, last) in [
        (format!("call {address} UnaryService/Multiply -d {overflow}"), true, "next    request less"),
        (format!("measure {address} {measure}/MeasureUnary"), false, "answer    from a message"),
        (format!("measure {address} {measure}/MeasureBidiStreaming"), false, "blocked   the share"),
        (format!("check http://{}", nobody.address), false, "checks in 0."),
    ] {
        let terminal = Terminal::with(&server.url, &arguments, has_stderr);
        let mut screen = String::new();
        let shown = || {
            let seen = String::from_utf8_lossy(&terminal.screen.lock().unwrap()).replace('\r', "");
            screen = escapes.replace_all(&seen, "").into_owned();
            screen.contains(last)
        };
        eventually(shown, last);
        for line in screen.lines() {
            assert!(line.chars().count() <= 80, "{line}\n{screen}");
        }
        if has_stderr {
            assert!(screen.contains("signed 64-bit\n       integer\n"), "{screen}");
        }
    }
}
