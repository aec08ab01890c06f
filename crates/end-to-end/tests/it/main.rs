//! Both programs as their users run them, in one program of tests: while some wait,
//! others run.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the report")]

mod answers;
mod bad_input;
mod bidi_streaming;
mod black_hole;
mod call;
mod check;
mod client_streaming;
mod command_line;
mod deadline;
mod documents;
mod first_service;
mod frames;
mod interrupted;
mod measure;
mod names;
mod net_rpc;
mod output;
mod retry;
mod server;
mod server_streaming;
mod servers;
mod slow_path;
mod terminal;
mod tls;
mod tour;
mod translations;
mod unary;
mod watch;

use test_support::{BlockingServer, Killable, Program, ServerProgram};

/// The client, with arguments that have no spaces in them.
fn client(arguments: &str) -> Program {
    Program::new(env!("CARGO_BIN_EXE_end-to-end-client")).args(arguments)
}

/// The server on a free port, with state that ends with it unless its arguments,
/// which have no spaces in them, say otherwise.
fn server(arguments: &str) -> Program {
    let program = Program::new(env!("CARGO_BIN_EXE_end-to-end-server")).args(arguments);
    program.env("FOURMODES_LISTEN", "127.0.0.1:0").env("FOURMODES_DATA_DIR", ":memory:")
}

/// What a client can call.
trait Called {
    fn url(&self) -> &str;

    /// A client that calls it.
    fn client(&self, arguments: &str) -> Program {
        client(arguments).env("FOURMODES_SERVER", self.url())
    }
}

impl Called for BlockingServer {
    fn url(&self) -> &str {
        &self.url
    }
}

impl Called for Killable {
    fn url(&self) -> &str {
        &self.url
    }

    /// The server may be dead for long on a busy machine.
    fn client(&self, arguments: &str) -> Program {
        client(arguments).env("FOURMODES_SERVER", &self.url).args("--reconnect 2min")
    }
}

impl Called for ServerProgram {
    fn url(&self) -> &str {
        &self.url
    }
}
