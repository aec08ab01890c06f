//! The events of a program's page.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
};

use serde_json::Value;

use crate::LONG;

/// A viewer of a page.
#[derive(Debug)]
pub struct Viewer {
    stream: BufReader<TcpStream>,
    events: Vec<Value>,
}

impl Viewer {
    /// Connects to the page at `host:port`. From here on the page has a viewer.
    pub fn at(address: &str) -> Self {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        write!(socket, "GET /events HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
        let mut viewer = Self { stream: BufReader::new(socket), events: Vec::new() };
        viewer.line(": the events");
        viewer
    }

    fn line(&mut self, start: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.stream.read_line(&mut line).unwrap() > 0, "the stream has ended");
            if line.starts_with(start) {
                return line.split_off(start.len());
            }
        }
    }

    /// All events up to the first of this type.
    pub fn until(&mut self, kind: &str) -> Vec<Value> {
        loop {
            if let Some(at) = self.events.iter().position(|event| event["type"] == kind) {
                return self.events.drain(..=at).collect();
            }
            let batch: Vec<Value> = serde_json::from_str(&self.line("data: ")).unwrap();
            self.events.extend(batch);
        }
    }
}
