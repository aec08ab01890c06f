//! A TCP proxy between a client and a server, for what networks do: it cuts a
//! connection after a number of bytes, stalls, or swallows everything.
//!
//! Plain threads, so that it also stands between processes.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard},
};

/// Stops with its last handle: connections that it has are cut then.
pub struct Proxy {
    /// What clients connect to.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// While there is none, new connections wait for one.
    target: Option<SocketAddr>,
    trouble: Trouble,
    /// Bytes that clients have sent since the trouble was chosen.
    passed: u64,
    /// Whether the trouble has happened.
    reached: bool,
    connections: Vec<TcpStream>,
    stopped: bool,
}

/// What is to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Everything passes.
    None,
    /// Every connection is cut once clients have sent so many bytes; those that
    /// come later pass.
    CutAfter(u64),
    /// Nothing passes any more, in either direction, once clients have sent so
    /// many bytes. Connections stay open, new ones are accepted.
    StallAfter(u64),
    /// What goes this way is taken and never arrives, the end of a connection
    /// included.
    Swallow(Way),
}

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client.
    ToServer,
    /// From the server.
    ToClient,
    /// Either of them.
    Both,
}

impl Proxy {
    /// In front of a server.
    pub fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = State {
            target: Some(target),
            trouble: Trouble::None,
            passed: 0,
            reached: false,
            connections: Vec::new(),
            stopped: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        std::thread::spawn({
            let shared = shared.clone();
            move || {
                while let Ok((client, _)) = listener.accept() {
                    if !shared.connect(client) {
                        return;
                    }
                }
            }
        });
        Self { address, shared }
    }

    /// What happens next. It counts from now on, and what was stalled goes on.
    pub fn set(&self, trouble: Trouble) {
        let mut state = self.shared.lock();
        (state.trouble, state.passed, state.reached) = (trouble, 0, false);
        self.shared.changed.notify_all();
    }

    /// Where new connections go; without a target they wait for one.
    pub fn set_target(&self, target: impl Into<Option<SocketAddr>>) {
        self.shared.lock().target = target.into();
        self.shared.changed.notify_all();
    }

    /// Cuts what there is.
    pub fn cut(&self) {
        self.shared.lock().cut();
        self.shared.changed.notify_all();
    }

    /// How many bytes clients have sent since the trouble was chosen.
    pub fn passed(&self) -> u64 {
        self.shared.lock().passed
    }

    /// Whether the trouble has happened.
    pub fn reached(&self) -> bool {
        self.shared.lock().reached
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.cut();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// False when the proxy has stopped.
    fn connect(self: &Arc<Self>, client: TcpStream) -> bool {
        let waits = |state: &mut State| state.target.is_none() && !state.stopped;
        let mut state = self.changed.wait_while(self.lock(), waits).unwrap();
        let Some(target) = state.target.filter(|_| !state.stopped) else { return false };
        // Nobody there: the client's connection ends.
        let Ok(server) = TcpStream::connect(target) else { return true };
        for stream in [&client, &server] {
            stream.set_nodelay(true).unwrap();
            state.connections.push(stream.try_clone().unwrap());
        }
        drop(state);
        for (from, to, counts) in
            [(client.try_clone().unwrap(), server.try_clone().unwrap(), true), (server, client, false)]
        {
            let shared = self.clone();
            std::thread::spawn(move || shared.copy(from, to, counts));
        }
        true
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, counts: bool) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if self.swallows(counts) {
                continue;
            }
            let mut rest = &buffer[..read];
            while !rest.is_empty() {
                let Some(pass) = self.passes(rest.len(), counts) else { break };
                if to.write_all(&rest[..pass]).is_err() {
                    break;
                }
                rest = &rest[pass..];
                if self.happens(counts) {
                    break;
                }
            }
            if !rest.is_empty() {
                break;
            }
        }
        if !self.swallows(counts) {
            let _ = to.shutdown(Shutdown::Write);
        }
        let _ = from.shutdown(Shutdown::Read);
    }

    fn swallows(&self, to_server: bool) -> bool {
        match self.lock().trouble {
            Trouble::Swallow(Way::Both) => true,
            Trouble::Swallow(way) => (way == Way::ToServer) == to_server,
            _ => false,
        }
    }

    /// How many of so many bytes may pass now. Waits while nothing may.
    fn passes(&self, length: usize, counts: bool) -> Option<usize> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            let left = match state.trouble {
                Trouble::CutAfter(limit) if counts && !state.reached => limit - state.passed,
                Trouble::StallAfter(limit) if state.passed >= limit => 0,
                Trouble::StallAfter(limit) if counts => limit - state.passed,
                _ => u64::MAX,
            };
            if left > 0 || matches!(state.trouble, Trouble::CutAfter(_)) {
                let pass = left.min(length as u64);
                state.passed += if counts { pass } else { 0 };
                return Some(pass as usize);
            }
            state.reached = true;
            state = self.changed.wait(state).unwrap();
        }
    }

    /// True when the connection is to end now.
    fn happens(&self, counts: bool) -> bool {
        let mut state = self.lock();
        match state.trouble {
            Trouble::CutAfter(limit) if counts && !state.reached && state.passed >= limit => {
                state.reached = true;
                state.cut();
                true
            }
            _ => false,
        }
    }
}

impl State {
    fn cut(&mut self) {
        for connection in self.connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}
