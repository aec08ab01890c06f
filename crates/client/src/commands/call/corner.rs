//! Calls that a page asks for, message by message.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use grpc_wire::mode_of;
use http::{HeaderMap, Uri};
use indicatif::ProgressBar;
use prost::Message as _;
use prost_reflect::{MessageDescriptor, MethodDescriptor};
use schema::{
    json::{Names, Object},
    template::template,
};
use serde::Deserialize;
use serde_json::{Value, json};
use timeline::{Tap, Timeline};
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
};
use tonic::metadata::MetadataMap;
use transport::{Channel, Connector};
use watch::{Pools, Seen, Taps};

use super::{
    exchange::{Calls, Requests},
    report::Report,
    service,
};
use crate::{commands::watch::describe, failure::Failure, values::duration};

/// How many calls of the page may be open, and how many messages of each may wait.
const CALLS: usize = 100;
const WAITING: usize = 64;
const LONGEST_RESPONSE: usize = 64 << 20;

/// Makes calls at a server. They pass the same taps as those of all clients, so they are
/// drawn with these.
pub(crate) struct Corner {
    pub(crate) connector: Connector,
    pub(crate) server: Uri,
    pub(crate) pools: Pools,
    pub(crate) taps: Taps,
    /// By the numbers of the calls.
    pub(crate) open: Mutex<HashMap<u64, Open>>,
}

/// A call that may not be over.
pub(crate) struct Open {
    input: MessageDescriptor,
    /// Until the half-close.
    messages: Option<mpsc::Sender<Result<Bytes, Failure>>>,
    call: AbortHandle,
}

/// What the page asks.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Question {
    Methods,
    Begin {
        method: String,
        message: String,
        /// A line each: `key: value`.
        #[serde(default)]
        metadata: String,
        /// Such as `5s`; empty for none.
        #[serde(default)]
        deadline: String,
    },
    Send {
        call: u64,
        message: String,
    },
    HalfClose {
        call: u64,
    },
    Cancel {
        call: u64,
    },
}

impl Corner {
    /// Does what the page asks, or says what is wrong.
    pub(crate) async fn answer(&self, question: Value) -> Result<Value, String> {
        let question = serde_json::from_value(question).map_err(|error| error.to_string())?;
        match question {
            Question::Methods => Ok(self.methods().await),
            Question::Begin { method, message, metadata, deadline } => {
                let metadata = service::metadata(&metadata).map_err(|wrong| format!("metadata: {wrong}"))?;
                let deadline = Some(deadline.trim()).filter(|deadline| !deadline.is_empty());
                let deadline =
                    deadline.map(duration).transpose().map_err(|wrong| format!("deadline: {wrong}"))?;
                self.begin(&method, &message, metadata, deadline).await
            }
            Question::Send { call, message } => self.with(call, |open| {
                let messages = open.messages.as_ref().ok_or("the call is half-closed")?;
                let message = encoded(&open.input, &message)?;
                messages.try_send(Ok(message)).map_err(|_| "the server takes no more messages now".to_owned())
            }),
            Question::HalfClose { call } => self.with(call, |open| {
                open.messages = None;
                Ok(())
            }),
            Question::Cancel { call } => self.with(call, |open| {
                open.call.abort();
                Ok(())
            }),
        }
    }

    /// What can be called: all that the server says it has, or else all that is known here.
    async fn methods(&self) -> Value {
        let (services, note) = match describe(&self.connector, &self.server, &self.pools).await {
            Ok(services) => (services, None),
            Err(reason) => {
                let note =
                    format!("The server does not say what it has ({reason}). These methods are known here.");
                (self.pools.services(), Some(note))
            }
        };
        let methods = self.pools.methods_of(&services).into_iter().map(|method| {
            json!({
                "path": schema::path_of(&method).trim_start_matches('/'),
                "mode": mode_of(&method).name(),
                "template": format!("{:#}", template(&method.input(), false)),
            })
        });
        json!({ "methods": methods.collect::<Vec<_>>(), "note": note })
    }

    async fn begin(
        &self,
        name: &str,
        message: &str,
        metadata: MetadataMap,
        deadline: Option<Duration>,
    ) -> Result<Value, String> {
        let method = self.pools.method(&format!("/{name}"));
        let method = method.ok_or_else(|| format!("nothing is known of a method {name:?}"))?;
        let has_many = mode_of(&method).has_many_requests();
        let first = if has_many { None } else { Some(encoded(&method.input(), message)?) };
        self.open().retain(|_, open| !open.call.is_finished());
        if self.open().len() >= CALLS {
            return Err(format!("{CALLS} calls of this page are open; end some of them"));
        }
        let (tell, number) = oneshot::channel();
        let tell = Mutex::new(Some(tell));
        let taps = self.taps.also(move |event| {
            if let Seen::Request { .. } = event.seen
                && let Some(tell) = tell.lock().unwrap_or_else(PoisonError::into_inner).take()
            {
                let _ = tell.send(event.call);
            }
        });
        let connector = Connector { onlookers: Some(taps.onlookers()), ..self.connector.clone() };
        let channel = connector.connect(&self.server).await.map_err(|error| error.message)?;
        let (messages, rest) = mpsc::channel(WAITING);
        let requests = Requests { first, rest: has_many.then_some(rest) };
        let input = method.input();
        let deadline = deadline.map(|deadline| Instant::now() + deadline);
        let mut call = tokio::spawn(call(method, channel, requests, metadata, deadline));
        let number = tokio::select! {
            biased;
            Ok(number) = number => number,
            ended = &mut call => return Err(match ended {
                Ok(Err(failure)) => failure.message().to_owned(),
                _ => "the call did not begin".to_owned(),
            }),
        };
        let messages = has_many.then_some(messages);
        self.open().insert(number, Open { input, messages, call: call.abort_handle() });
        Ok(json!({ "call": number, "sends": has_many }))
    }

    fn with(&self, call: u64, act: impl FnOnce(&mut Open) -> Result<(), String>) -> Result<Value, String> {
        let mut open = self.open();
        let open = open.get_mut(&call).filter(|open| !open.call.is_finished());
        act(open.ok_or_else(|| format!("call {call} is over"))?)?;
        Ok(json!({}))
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Corner {
    fn drop(&mut self) {
        self.open().values().for_each(|open| open.call.abort());
    }
}

/// Makes one call. What comes of it is seen by the taps of its connection.
async fn call(
    method: MethodDescriptor,
    channel: Channel,
    requests: Requests,
    metadata: MetadataMap,
    deadline: Option<Instant>,
) -> Result<(), Failure> {
    let timeline = Timeline::new(Vec::new(), None, transport::explain, ProgressBar::hidden());
    let calls = Calls {
        method: &method,
        metadata,
        deadline,
        compression: None,
        max_message: LONGEST_RESPONSE,
        pace: None,
        keeps_open: false,
        names: Names::Json,
        writes: None,
        keeps: false,
    };
    let tap = Tap::new(channel, timeline, HeaderMap::new(), "page", None);
    calls.call(tap, requests, 0, &mut Report::default()).await
}

fn encoded(desc: &MessageDescriptor, text: &str) -> Result<Bytes, String> {
    let object = Object { text, line: 1, column: 1 };
    let message = schema::json::message(desc, object).map_err(|misfit| misfit.to_string())?;
    Ok(message.encode_to_vec().into())
}
