//! A deadline, to the last byte of the answer. tonic keeps it up to the head.
//!
//! The server keeps it as well. Some, such as those of grpc-go, end a call at its
//! deadline by a reset with CANCEL. That may come before this side's own timer.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use grpc_wire::timeout;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tonic::{Status, TimeoutExpired, body::Body};

use crate::connect_error::chain;

/// When the call is to end, by its headers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// Of a call that begins now.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let time = headers.get(&timeout::GRPC_TIMEOUT).and_then(timeout::parse);
        Self(time.and_then(|time| Instant::now().checked_add(time)))
    }

    /// Waits for an answer until then.
    pub(crate) async fn head<T>(self, answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        let answer = match self.0 {
            Some(deadline) => timeout_at(deadline, answer).await.unwrap_or_else(|_| Err(passed())),
            None => answer.await,
        };
        answer.map_err(|status| self.or_passed(status))
    }

    /// The body of an answer, which ends then.
    pub(crate) fn body(self, body: Body) -> Body {
        match self.0 {
            Some(deadline) => {
                Body::new(Until { body, deadline: self, timer: Box::pin(sleep_until(deadline)) })
            }
            None => body,
        }
    }

    fn or_passed(self, status: Status) -> Status {
        if self.has_ended(&status) { passed() } else { status }
    }

    /// Whether a call that broke now was ended by its server, at its deadline.
    fn has_ended(self, broken: &(dyn Error + 'static)) -> bool {
        let is_reset = |error: &h2::Error| error.is_reset() && error.reason() == Some(h2::Reason::CANCEL);
        self.0.is_some_and(|deadline| deadline <= Instant::now())
            && chain(broken).filter_map(|error| error.downcast_ref()).any(is_reset)
    }
}

fn passed() -> Status {
    Status::from_error(Box::new(TimeoutExpired(())))
}

struct Until {
    body: Body,
    deadline: Deadline,
    timer: Pin<Box<Sleep>>,
}

impl http_body::Body for Until {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, deadline, timer } = &mut *self;
        // First: there may always be something to read.
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(passed())));
        }
        let frame = Pin::new(body).poll_frame(cx);
        frame.map(|frame| frame.map(|frame| frame.map_err(|status| deadline.or_passed(status))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use h2::Reason;
    use tokio::net::TcpStream;
    use tonic::{Code, Request};
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    use crate::{CallError, connector::tests::connected};

    /// After this a server resets each call.
    const WHILE: Duration = Duration::from_millis(40);

    async fn serve(client: TcpStream, answers: bool) {
        let mut calls = h2::server::handshake(client).await.unwrap();
        while let Some(Ok((_, mut respond))) = calls.accept().await {
            tokio::spawn(async move {
                let head = http::Response::builder().header("content-type", "application/grpc");
                let head = head.body(()).unwrap();
                let answer = answers.then(|| respond.send_response(head, false).unwrap());
                tokio::time::sleep(WHILE).await;
                match answer {
                    Some(mut answer) => answer.send_reset(Reason::CANCEL),
                    None => respond.send_reset(Reason::CANCEL),
                }
            });
        }
    }

    /// How calls with this deadline, if any, end: a unary one and a stream.
    async fn ends(deadline: Option<Duration>, answers: bool) -> [Code; 2] {
        let mut client = HealthClient::new(connected(move |client| serve(client, answers)).await);
        let request = || {
            let mut request = Request::new(HealthCheckRequest::default());
            deadline.into_iter().for_each(|deadline| request.set_timeout(deadline));
            request
        };
        let unary = client.check(request()).await.map(drop);
        let stream = match client.watch(request()).await {
            Ok(answer) => answer.into_inner().message().await.map(drop),
            Err(status) => Err(status),
        };
        [unary, stream].map(|ended| CallError::from(ended.unwrap_err()).code())
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_more_keeps_no_call_beyond_its_deadline() {
        let begins = async |client| {
            let mut calls = h2::server::handshake(client).await.unwrap();
            let mut open = Vec::new();
            while let Some(Ok((_, mut respond))) = calls.accept().await {
                let head = http::Response::builder().header("content-type", "application/grpc");
                open.push(respond.send_response(head.body(()).unwrap(), false).unwrap());
            }
        };
        let mut client = HealthClient::new(connected(begins).await);
        let begun = std::time::Instant::now();
        let mut request = Request::new(HealthCheckRequest::default());
        request.set_timeout(WHILE);
        let ended = client.watch(request).await.unwrap().into_inner().message().await;
        assert_eq!(CallError::from(ended.unwrap_err()).code(), Code::DeadlineExceeded);
        assert!(begun.elapsed() >= WHILE);
    }

    #[tokio::test]
    async fn a_reset_at_the_deadline_means_that_it_has_passed() {
        let passed = Some(WHILE * 3 / 4);
        let far = Some(Duration::from_secs(3600));
        for answers in [false, true] {
            assert_eq!(ends(passed, answers).await, [Code::DeadlineExceeded; 2], "{answers}");
            assert_eq!(ends(far, answers).await, [Code::Cancelled; 2], "{answers}");
            assert_eq!(ends(None, answers).await, [Code::Cancelled; 2], "{answers}");
        }
    }
}
