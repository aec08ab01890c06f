//! The server's share of the CPU time, which it tells if it is asked.

use std::{sync::Arc, time::Duration};

use grpc_wire::code_name;
use prost_types::Timestamp;
use shared_proto::fourmodes::v1::{GetStatusRequest, unary_service_client::UnaryServiceClient};
use tokio::runtime::Handle;
use tonic::Code;
use transport::{CallError, Traffic};

use crate::{Request, line::Line, work::Error};

/// How long the answer may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// A connection of its own, so that what is asked is not among what is counted.
pub(crate) struct Server(UnaryServiceClient<Line>);

/// What it said at one time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    start: Option<Timestamp>,
    cpu: Duration,
    /// Messages that it has received and sent.
    messages: u64,
}

/// What is known of its CPU time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ServerCpu {
    Known(Duration),
    /// Others had something of it as well.
    Shared(Duration),
    /// With the reason.
    Unknown(String),
}

impl Server {
    pub(crate) async fn connect(request: &Request) -> Result<Self, Error> {
        let line = Line::open(request, Arc::<Traffic>::default(), &Handle::current()).await?;
        Ok(Self(UnaryServiceClient::new(line)))
    }

    /// # Errors
    ///
    /// Why it does not tell.
    pub(crate) async fn ask(&mut self) -> Result<Told, String> {
        let mut request = tonic::Request::new(GetStatusRequest {});
        request.set_timeout(DEADLINE);
        let told = match self.0.get_status(request).await {
            Ok(told) => told.into_inner(),
            Err(status) if status.code() == Code::Unimplemented => {
                return Err("the server does not serve UnaryService.GetStatus".to_owned());
            }
            Err(status) => {
                return Err(format!("GetStatus answers {}", code_name(CallError::from(status).code())));
            }
        };
        let cpu = told.cpu_time.and_then(|time| time.try_into().ok());
        Ok(Told {
            start: told.start_time,
            cpu: cpu.ok_or("the server does not report its CPU time")?,
            messages: told.modes.iter().map(|mode| mode.messages_received + mode.messages_sent).sum(),
        })
    }
}

impl ServerCpu {
    /// What passed between two answers, of which `ours` messages were.
    pub(crate) fn between(before: Result<Told, String>, after: Result<Told, String>, ours: u64) -> Self {
        let (before, after) = match (before, after) {
            (Ok(before), Ok(after)) => (before, after),
            (Err(reason), _) | (_, Err(reason)) => return Self::Unknown(reason),
        };
        let messages = after.messages.saturating_sub(before.messages);
        let cpu = after.cpu.saturating_sub(before.cpu);
        // The answer to the first question and the second question.
        let ours = ours + 2;
        match messages {
            _ if before.start != after.start => Self::Unknown("several servers answer".to_owned()),
            less if less < ours => {
                Self::Unknown("another server answered than the one that did the work".to_owned())
            }
            more if more > ours + ours / 100 + 10 => Self::Shared(cpu),
            _ => Self::Known(cpu),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_only_known_when_nobody_else_was_served() {
        let told = |second, cpu, messages| {
            let start = Some(Timestamp { seconds: second, nanos: 0 });
            Ok(Told { start, cpu: Duration::from_secs(cpu), messages })
        };
        let between = |before, after| ServerCpu::between(before, after, 1000);
        assert_eq!(between(told(1, 5, 10), told(1, 7, 1012)), ServerCpu::Known(Duration::from_secs(2)));
        assert_eq!(between(told(1, 5, 10), told(1, 7, 1100)), ServerCpu::Shared(Duration::from_secs(2)));
        let unknown = |cpu| matches!(cpu, ServerCpu::Unknown(_));
        assert!(unknown(between(told(1, 5, 10), told(2, 7, 1012))));
        assert!(unknown(between(told(1, 5, 10), told(1, 7, 12))));
        assert!(unknown(between(Err("no".to_owned()), told(1, 7, 12))));
    }
}
