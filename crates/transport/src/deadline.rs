//! A deadline that the server keeps as well.
//!
//! Some servers, such as those of grpc-go, end a call at its deadline by a reset with
//! CANCEL. That may come before this side's own timer.

use std::{error::Error, time::Instant};

use grpc_wire::timeout;
use http::HeaderMap;

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

    /// Whether a call that broke now was ended by its server, at its deadline.
    pub(crate) fn has_ended(self, broken: &(dyn Error + 'static)) -> bool {
        let is_reset = |error: &h2::Error| error.is_reset() && error.reason() == Some(h2::Reason::CANCEL);
        self.0.is_some_and(|deadline| deadline <= Instant::now())
            && chain(broken).filter_map(|error| error.downcast_ref()).any(is_reset)
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
