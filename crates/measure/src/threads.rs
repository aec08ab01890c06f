//! The threads of the connections that are measured. A connection and its calls stay on one
//! thread, so no message wakes another thread.

use std::{io, thread};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

pub(crate) struct Threads(Vec<(Handle, oneshot::Sender<()>)>);

impl Threads {
    /// Starts a thread for each connection, at most one for each core. They end when this is
    /// dropped.
    pub(crate) fn start(connections: usize) -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let start = |number| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let handle = runtime.handle().clone();
            let (needed, unneeded) = oneshot::channel();
            thread::Builder::new().name(format!("measure-{number}")).spawn(move || {
                // An error says that the sender was dropped.
                let _ = runtime.block_on(unneeded);
            })?;
            Ok((handle, needed))
        };
        (0..connections.clamp(1, cores)).map(start).collect::<io::Result<_>>().map(Self)
    }

    /// The thread of a connection.
    pub(crate) fn of(&self, connection: usize) -> &Handle {
        &self.0[connection % self.0.len()].0
    }
}
