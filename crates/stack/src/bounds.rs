//! Bounds a call whether or not its peer reads: its time, and the bytes that the server
//! holds for it.
//!
//! hyper does not poll a body while a chunk waits for the peer to read, so a timer in a
//! body cannot end the call. The layers decide when a call is due. The transport, which
//! drives the call, enforces it.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::timeout;
use tonic::Status;

use crate::status::too_much_buffered;

/// How long a call that is due may take to send its status.
const GRACE: Duration = Duration::from_secs(5);

/// The bytes that each call may hold in addition to the budgets, so that an exhausted
/// budget ends no small call.
const OWN: usize = 64 << 10;

/// The bounds of one call. The transport adds them to the request.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    pub(crate) end: End,
    pub(crate) held: Held,
}

impl Bounds {
    pub(crate) fn within(budget: Arc<Budget>) -> Self {
        Self { end: End::default(), held: Held { budget, caller: OnceLock::new(), amount: Mutex::default() } }
    }
}

/// Drives a call. Returns `None` when the call was due and did not end within
/// [`GRACE`].
pub(crate) async fn keep<T>(
    mut call: Pin<&mut impl Future<Output = T>>,
    due: impl FnMut(&mut Context<'_>) -> Poll<()>,
) -> Option<T> {
    tokio::select! {
        biased;
        done = &mut call => return Some(done),
        () = poll_fn(due) => {}
    }
    timeout(GRACE, call).await.ok()
}

/// Varies `age` by a tenth, so that connections that were opened together do not end
/// together.
pub(crate) fn about(age: Duration) -> Duration {
    age.mul_f64(0.9 + 0.2 * fastrand::f64())
}

/// When a call is due, and why.
#[derive(Default)]
pub(crate) struct End(Mutex<Ending>);

#[derive(Default)]
struct Ending {
    reasons: Vec<Pin<Box<dyn Future<Output = Status> + Send>>>,
    due: bool,
    /// Set until it has been sent to the peer.
    status: Option<Status>,
}

impl End {
    /// Makes the call due when `reason` completes.
    pub(crate) fn when(&self, reason: impl Future<Output = Status> + Send + 'static) {
        lock(&self.0).reasons.push(Box::pin(reason));
    }

    pub(crate) fn poll_due(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ending = lock(&self.0);
        if !ending.due {
            ending.status = ending.reasons.iter_mut().find_map(|reason| match reason.as_mut().poll(cx) {
                Poll::Ready(status) => Some(status),
                Poll::Pending => None,
            });
            ending.due = ending.status.is_some();
        }
        if ending.due { Poll::Ready(()) } else { Poll::Pending }
    }

    pub(crate) fn is_due(&self) -> bool {
        lock(&self.0).due
    }

    /// The status to send to the peer. Returned once.
    pub(crate) fn take_status(&self) -> Option<Status> {
        lock(&self.0).status.take()
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("End").field("due", &self.is_due()).finish_non_exhaustive()
    }
}

/// The bytes that a connection, a caller or the whole server may hold for calls.
#[derive(Debug)]
pub(crate) struct Budget {
    most: usize,
    used: Mutex<usize>,
    /// For a connection's budget, the budget of the server.
    whole: Option<Arc<Budget>>,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Budget {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, used: Mutex::default(), whole: None }
    }

    /// The budget of one connection: a quarter of the whole.
    pub(crate) fn share(whole: Arc<Self>) -> Self {
        Self { most: whole.most / 4, used: Mutex::default(), whole: Some(whole) }
    }

    /// Takes nothing if it fails.
    fn take(&self, bytes: usize) -> Result<(), Status> {
        let mut used = lock(&self.used);
        let after = used.saturating_add(bytes);
        if after > self.most {
            return Err(too_much_buffered(self.most));
        }
        if let Some(whole) = &self.whole {
            whole.take(bytes)?;
        }
        *used = after;
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        let mut used = lock(&self.used);
        *used = used.saturating_sub(bytes);
        if let Some(whole) = &self.whole {
            whole.give_back(bytes);
        }
    }
}

/// The bytes that the server holds for one call: unsent responses, and an incomplete
/// request.
#[derive(Debug, Default)]
pub(crate) struct Held {
    budget: Arc<Budget>,
    /// The budget of the caller, once the caller is known.
    caller: OnceLock<Arc<Budget>>,
    amount: Mutex<Amount>,
}

#[derive(Debug, Default)]
struct Amount {
    bytes: usize,
    /// The bytes of responses on their way to the transport.
    passing: usize,
}

impl Held {
    /// From now on, the bytes held count for this caller as well.
    pub(crate) fn count_for(&self, caller: Arc<Budget>) {
        // A call has one caller.
        let _ = self.caller.set(caller);
    }

    /// # Errors
    ///
    /// RESOURCE_EXHAUSTED when that would exceed a budget.
    pub(crate) fn take(&self, bytes: usize) -> Result<(), Status> {
        let mut amount = lock(&self.amount);
        let after = amount.bytes.saturating_add(bytes);
        let more = after.saturating_sub(OWN) - amount.bytes.saturating_sub(OWN);
        if more > 0 {
            self.budget.take(more)?;
            if let Some(caller) = self.caller.get() {
                caller.take(more).inspect_err(|_| self.budget.give_back(more))?;
            }
        }
        amount.bytes = after;
        Ok(())
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        let mut amount = lock(&self.amount);
        let before = amount.bytes;
        amount.bytes = before.saturating_sub(bytes);
        let less = before.saturating_sub(OWN) - amount.bytes.saturating_sub(OWN);
        if less > 0 {
            self.budget.give_back(less);
            if let Some(caller) = self.caller.get() {
                caller.give_back(less);
            }
        }
    }

    /// Like [`take`](Self::take), for a chunk of a response. The transport gives the
    /// bytes back.
    ///
    /// # Errors
    ///
    /// Those of [`take`](Self::take).
    pub(crate) fn take_passing(&self, bytes: usize) -> Result<(), Status> {
        self.take(bytes)?;
        lock(&self.amount).passing += bytes;
        Ok(())
    }

    /// The bytes that the transport has to give back for the chunk that has reached it,
    /// even if a layer has translated the chunk.
    pub(crate) fn passed(&self) -> usize {
        std::mem::take(&mut lock(&self.amount).passing)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let bytes = lock(&self.amount).bytes;
        self.give_back(bytes);
    }
}

/// The data stays consistent when a thread panics.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
