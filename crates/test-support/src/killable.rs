//! A server that a test may kill, behind an address that stays the same.

use std::sync::Mutex;

use crate::{Program, Proxy, ServerProgram};

/// A client that comes while the server is dead waits for the next one.
pub struct Killable {
    /// What clients connect to: it passes everything on.
    pub url: String,
    server: Mutex<ServerProgram>,
    proxy: Proxy,
}

impl Killable {
    /// Starts the server.
    pub fn start(program: Program) -> Self {
        let server = program.serve();
        let proxy = Proxy::start(server.address);
        let scheme = server.url.split(':').next().unwrap();
        Self { url: format!("{scheme}://{}", proxy.address), server: Mutex::new(server), proxy }
    }

    /// Kills the server in the midst of whatever it does, and starts it again.
    pub fn restart(&self) {
        let mut server = self.server.lock().unwrap();
        self.proxy.set_target(None);
        server.kill();
        server.restart_at("127.0.0.1:0");
        self.proxy.set_target(server.address);
    }
}
