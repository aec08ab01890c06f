//! From the arguments to what is shown.

use std::{
    io::{self, Write as _},
    sync::Arc,
    time::Instant,
};

use grpc_wire::mode_of;
use prost_reflect::MethodDescriptor;
use schema::Schema;
use timeline::{Tap, Timeline};
use tonic::codec::CompressionEncoding;
use transport::{Channel, Connector, Onlookers, Traffic, retry::Backoff};

use super::{
    Call, Compression,
    exchange::{Calls, Requests},
    input::{Input, Messages},
    listing,
    report::Report,
    service::{LIST, reflected},
};
use crate::{
    commands::record::{RECORDED, Recording},
    config::Config,
    failure::Failure,
    options::Output,
    prompt::Prompt,
    show,
};

/// One run of the command.
pub(super) struct Run<'a> {
    call: &'a Call,
    config: &'a Config,
    input: Input,
    begun: Instant,
    traffic: Arc<Traffic>,
    report: Report,
    /// Once there is something to draw.
    timeline: Option<Timeline>,
    mode: &'static str,
    /// What was asked for instead of a call.
    shown: Option<(serde_json::Value, String)>,
    /// Who sees the connections of the call.
    onlookers: Option<Onlookers>,
    recording: Option<Recording>,
}

impl<'a> Run<'a> {
    pub(super) fn new(call: &'a Call, config: &'a Config, input: Input) -> Self {
        let report = Report { shows_metadata: call.verbose, ..Report::default() };
        Self {
            call,
            config,
            input,
            begun: Instant::now(),
            traffic: Arc::default(),
            report,
            timeline: None,
            mode: "any",
            shown: None,
            onlookers: None,
            recording: None,
        }
    }

    pub(super) async fn go(&mut self) -> Result<(), Failure> {
        let files = self.call.service.schema_of_files()?;
        let is_local = self.call.template || self.call.wanted().is_none_or(|(_, method)| method.is_none());
        if let Some(schema) = files.as_ref().filter(|_| is_local) {
            self.shown = Some(self.listing(schema)?);
            return Ok(());
        }
        let channel = self.connect().await?;
        self.report.connect = self.traffic.dialled().map(|at| at - self.begun);
        self.report.tls = self.traffic.secured().zip(self.traffic.dialled()).map(|(tls, tcp)| tls - tcp);
        let schema = match files {
            Some(schema) => schema,
            None => {
                let mut reflection = self.call.service.reflection(channel.clone());
                match self.call.wanted() {
                    None => {
                        let services = reflection.services().await.map_err(reflected)?;
                        self.shown = Some(listing::services(services));
                        return Ok(());
                    }
                    Some((symbol, _)) => reflection.schema(symbol).await.map_err(reflected)?,
                }
            }
        };
        match self.call.wanted() {
            Some((service, Some(method))) if !self.call.template => {
                let method =
                    schema.method(service, method).map_err(|unknown| Failure::unfit(unknown, LIST))?;
                self.exchange(&method, channel).await
            }
            _ => {
                self.shown = Some(self.listing(&schema)?);
                Ok(())
            }
        }
    }

    async fn connect(&self) -> Result<Channel, Failure> {
        let mut backoff = Backoff::default();
        let connector = Connector { onlookers: self.onlookers.clone(), ..self.config.connector.clone() };
        loop {
            match connector.connect_counted(&self.config.server(), self.traffic.clone()).await {
                Ok(channel) => return Ok(channel),
                Err(error) => {
                    let waits =
                        self.config.deadline.is_some() || self.begun.elapsed() < self.config.reconnect;
                    if !self.config.wait_for_ready || !waits || !error.may_be_tried_again() {
                        return Err(Failure { stage: timeline::Stage::Connecting, ..error.into() });
                    }
                    tokio::time::sleep(backoff.pause(None, None)).await;
                }
            }
        }
    }

    fn listing(&self, schema: &Schema) -> Result<(serde_json::Value, String), Failure> {
        listing::of(schema, self.call.wanted(), self.call.template, self.call.proto_names)
            .map_err(|unknown| Failure::unfit(unknown, LIST))
    }

    async fn exchange(&mut self, method: &MethodDescriptor, mut channel: Channel) -> Result<(), Failure> {
        let mode = mode_of(method);
        self.mode = mode.name();
        self.report.method = schema::path_of(method);
        let quiet = self.config.quiet;
        let timeline = show::timeline_of(self.config, quiet, false, || method.parent_pool().clone())?;
        self.timeline = Some(timeline.clone());
        self.look_on(&timeline)?;
        if self.onlookers.is_some() {
            // One that nothing else has passed on.
            channel = self.connect().await?;
        } else {
            timeline.connected("client", &self.config.server());
        }
        let (_prompt, editor) = match self.input {
            Input::Typed => Prompt::open().unzip(),
            _ => (None, None),
        };
        let mut editor = editor;
        let calls = Calls {
            method,
            metadata: self.call.service.metadata(),
            deadline: self.config.deadline.map(|deadline| self.begun + deadline),
            compression: self.call.compress.map(|compression| match compression {
                Compression::Gzip => CompressionEncoding::Gzip,
                Compression::Zstd => CompressionEncoding::Zstd,
            }),
            max_message: usize::try_from(self.call.max_message).unwrap_or(usize::MAX),
            pace: self.call.pace,
            keeps_open: self.call.keep_open && mode.has_many_requests(),
            names: self.call.names(),
            writes: quiet.then_some(self.config.output),
            keeps: !quiet && self.config.output == Output::Text,
        };
        for _ in 0..self.call.repeat {
            let mut messages = self.input.read(&method.input(), editor.take());
            let first = self.first(method, &mut messages).await?;
            let mut backoff = Backoff::default();
            let mut rest = mode.has_many_requests().then_some(messages);
            let mut attempts = 0;
            loop {
                // What was measured before belongs to another call.
                self.report = Report {
                    method: std::mem::take(&mut self.report.method),
                    connect: self.report.connect,
                    tls: self.report.tls,
                    calls: self.report.calls,
                    shows_metadata: self.report.shows_metadata,
                    ..Report::default()
                };
                let faults = self.config.connector.metadata.faults().clone();
                let tap = Tap::new(channel.clone(), timeline.clone(), faults, "client", None);
                let requests = Requests { first: first.clone(), rest: rest.take() };
                let called = calls.call(tap, requests, attempts, &mut self.report);
                let ended = tokio::select! {
                    biased;
                    () = timeline.broken() => Ok(()),
                    ended = called => ended,
                };
                attempts += 1;
                match ended {
                    Ok(()) => break,
                    Err(failure)
                        if !mode.has_many_requests()
                            && attempts < self.config.max_attempts
                            && self.report.received.messages() == 0
                            && failure.may_be_tried_again() =>
                    {
                        let pause = backoff.pause(failure.pushback(), failure.retry_after());
                        timeline.reconnecting(attempts, pause, failure.message());
                        tokio::time::sleep(pause).await;
                        channel = self.connect().await?;
                        if self.onlookers.is_none() {
                            timeline.connected("client", &self.config.server());
                        }
                    }
                    Err(failure) => return Err(Failure { stage: timeline.stage(), ..failure }),
                }
            }
            self.report.calls += 1;
        }
        Ok(())
    }

    /// Has the connections of the call seen by whoever wants to: the diagram, for their
    /// frames, and the recording.
    fn look_on(&mut self, timeline: &Timeline) -> Result<(), Failure> {
        let server = self.config.server();
        let recorder = self.call.record.recorder(&server)?;
        if recorder.is_none() && (!self.config.frames || self.config.quiet) {
            return Ok(());
        }
        let keep = if recorder.is_some() { RECORDED } else { 0 };
        let mut taps = show::taps(timeline, "client", &server, keep, self.config.frames);
        if let Some(recorder) = recorder {
            let recording;
            (recording, taps) = Recording::of(&taps, recorder);
            self.recording = Some(recording);
        }
        self.onlookers = Some(taps.onlookers());
        Ok(())
    }

    /// The message without which nothing is sent: so a first one that is wrong costs no
    /// call. What is typed into a stream comes when it comes.
    async fn first(
        &self,
        method: &MethodDescriptor,
        messages: &mut Messages,
    ) -> Result<Option<bytes::Bytes>, Failure> {
        let is_typed = matches!(self.input, Input::Typed);
        if method.is_client_streaming() && is_typed {
            return Ok(None);
        }
        let first = messages.recv().await.transpose()?;
        if method.is_client_streaming() {
            return Ok(first);
        }
        if !is_typed && messages.recv().await.transpose()?.is_some() {
            let reason = format!("{} takes one message, but there are more", method.full_name());
            return Err(Failure::unfit(reason, "send one, or call a method that takes a stream"));
        }
        match first {
            Some(first) => Ok(Some(first)),
            None => {
                let empty = schema::json::Object { text: "{}", line: 1, column: 1 };
                let message = schema::json::message(&method.input(), empty);
                let message =
                    message.map_err(|misfit| Failure::unfit(misfit.reason, "give a message with -d"))?;
                Ok(Some(prost::Message::encode_to_vec(&message).into()))
            }
        }
    }

    /// Shows what came of it.
    pub(super) async fn finish(mut self, ended: Result<(), Failure>) -> Result<(), Failure> {
        self.report.passed(&self.traffic);
        self.onlookers = None;
        let recorded = match self.recording.take() {
            Some(recording) => recording.finish().await.map_err(|error| self.call.record.failure(&error)),
            None => Ok(()),
        };
        let ended = ended.and(recorded);
        let is_json = self.config.output == Output::Json;
        if let Some((value, text)) = self.shown.take() {
            if !is_json {
                return show::hand_on(text.as_bytes());
            }
            let outcome = self.outcome(value, String::new(), None);
            let timeline = show::timeline(self.config, true, false)?;
            timeline.finish(&outcome);
            return timeline.error().map_or(Ok(()), |error| Err(Failure::unwritten(&error)));
        }
        let timeline = match self.timeline.take() {
            Some(timeline) => timeline,
            // Nothing was called: only a program reads why.
            None => show::timeline_of(self.config, true, false, Default::default)?,
        };
        let called = !self.report.method.is_empty();
        let text = if called && !self.config.quiet { self.report.to_string() } else { String::new() };
        if self.config.quiet && self.call.verbose && !is_json {
            // Nobody is left to tell when stderr is gone.
            let _ = io::stderr().write_all(self.report.metadata().as_bytes());
        }
        let value = if called { self.report.json() } else { serde_json::json!({}) };
        timeline.finish(&self.outcome(value, text, ended.as_ref().err()));
        let unwritten = timeline.error().map(|error| Failure::unwritten(&error));
        match unwritten {
            Some(failure) if ended.is_ok() => Err(failure),
            _ => ended,
        }
    }

    fn outcome(
        &self,
        value: serde_json::Value,
        text: String,
        failure: Option<&Failure>,
    ) -> timeline::Outcome {
        let failed = failure.map(Failure::failed);
        timeline::Outcome { mode: self.mode, scenario: "call", value, text, failed }
    }
}
