//! What bounds a call whether or not its peer reads: the time that the call has,
//! and the bytes that the server holds for it.
//!
//! hyper asks a body for nothing while a chunk waits for the peer to read, so no
//! timer in a body can end the call. The layers say when a call is due, and the
//! transport, which drives the call, watches for it.

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

/// How long a call that is due may take to tell its peer.
const GRACE: Duration = Duration::from_secs(5);

/// The bytes that each call may hold beside the budgets, so that a budget that
/// others have used up ends no small call.
const OWN: usize = 64 << 10;

/// The bounds of one call. The transport puts them into the request.
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

/// Drives a call. Completes with nothing when the call was due and did not end
/// within [`GRACE`].
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

/// A tenth more or less, so that those that came together do not go together.
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
    /// Until somebody has told the peer.
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

    /// What to tell the peer, once.
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
    /// That of the server, for a connection's.
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

    /// That of one connection: a quarter of the whole.
    pub(crate) fn share(whole: Arc<Self>) -> Self {
        Self { most: whole.most / 4, used: Mutex::default(), whole: Some(whole) }
    }

    /// Nothing is taken when it fails.
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

/// The bytes that the server holds for one call: responses that are not sent yet,
/// and a request that is not complete.
#[derive(Debug, Default)]
pub(crate) struct Held {
    budget: Arc<Budget>,
    /// That of the caller, once it is known.
    caller: OnceLock<Arc<Budget>>,
    amount: Mutex<Amount>,
}

#[derive(Debug, Default)]
struct Amount {
    bytes: usize,
    /// Those of responses that are on their way to the transport.
    passing: usize,
}

impl Held {
    /// From now on, what is held counts for this caller as well.
    pub(crate) fn count_for(&self, caller: Arc<Budget>) {
        // A call has one caller.
        let _ = self.caller.set(caller);
    }

    /// # Errors
    ///
    /// RESOURCE_EXHAUSTED when that would be more than a budget has.
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

    /// [`take`](Self::take), for a chunk of a response: the transport gives it back.
    ///
    /// # Errors
    ///
    /// As there.
    pub(crate) fn take_passing(&self, bytes: usize) -> Result<(), Status> {
        self.take(bytes)?;
        lock(&self.amount).passing += bytes;
        Ok(())
    }

    /// What the transport has to give back for the chunk that has come to it,
    /// whatever that was translated into.
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

/// What is behind it stays consistent when a thread panics.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
