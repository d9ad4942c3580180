// SPDX-License-Identifier: MIT OR Apache-2.0

//! A session: from the first to the last caption.

use std::{
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    time::{Duration, Instant},
};

use super::{args::Live, captioner::Captioner, event::Event, feed::Feed, hls, outputs::Outputs, source::Source};
use crate::{Result, interrupt};

/// How long to wait for events before checking for Ctrl-C.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long the last captions may take.
const END_TIMEOUT: Duration = Duration::from_secs(20);

impl Live {
    pub fn run(&self) -> Result<()> {
        let caught = interrupt::catch();
        caught.map_err(|error| format!("cannot install a handler for Ctrl-C: {error}"))?;
        let source = Source::of(&self.source);
        if self.hls.is_some() {
            hls::check(&source)?;
        }
        source.check()?;
        let outputs = Outputs::open(self, &source)?;
        let (sender, events) = mpsc::channel();
        let captioner = Captioner::load(self, sender.clone())?;
        let session = Session {
            arguments: self,
            source,
            captioner,
            outputs,
            sender: Some(sender),
            ended: None,
        };
        session.run(&events)
    }
}

struct Session<'a> {
    arguments: &'a Live,
    source: Source,
    captioner: Captioner,
    outputs: Outputs,
    /// For the thread of the source, until it is started.
    sender: Option<Sender<Event>>,
    /// Once the source has ended: when, and why.
    ended: Option<(Instant, Result<()>)>,
}

impl Session<'_> {
    fn run(mut self, events: &Receiver<Event>) -> Result<()> {
        let result = self.follow(events);
        let closed = self.outputs.close();
        result.and(closed)
    }

    /// Acts on events until the last one.
    fn follow(&mut self, events: &Receiver<Event>) -> Result<()> {
        loop {
            match events.recv_timeout(POLL_INTERVAL) {
                Ok(Event::CaptionsEnded) => return self.ended.take().map_or(Ok(()), |(_, result)| result),
                Ok(event) => self.act(event)?,
                Err(RecvTimeoutError::Disconnected) => return Err("the captions ended unexpectedly".into()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let input = self.captioner.input();
            if let Some(now) = input.session_time(input.now()) {
                self.outputs.publish(now);
            }
            self.outputs.check()?;
            let is_loading = self.sender.is_some();
            if is_loading && interrupt::is_requested() {
                return Ok(());
            }
            if self
                .ended
                .as_ref()
                .is_some_and(|(since, _)| since.elapsed() > END_TIMEOUT)
            {
                return Err(format!("the last captions took more than {} s", END_TIMEOUT.as_secs()).into());
            }
        }
    }

    fn act(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Loaded => return self.start(),
            Event::Failed(error) => return Err(error.into()),
            Event::Listening => self.outputs.listening(),
            Event::Reconnecting { reason, wait } => self.outputs.reconnecting(&reason, wait),
            Event::Caption(caption) => self.outputs.caption(&caption),
            Event::Settled(time) => self.outputs.settled(time),
            Event::Media(update) => self.outputs.media(update),
            Event::Notice(notice) => self.outputs.notice(&notice),
            Event::Latency => self.captioner.update_latency(),
            Event::SourceEnded(result) => {
                self.ended = Some((Instant::now(), result.map_err(Into::into)));
                self.captioner.end();
            }
            Event::CaptionsEnded => {}
        }
        Ok(())
    }

    /// The model is loaded: opens the source.
    fn start(&mut self) -> Result<()> {
        let Some(events) = self.sender.take() else {
            return Ok(());
        };
        if let Some(notice) = self.arguments.model.notice() {
            self.outputs.notice(notice);
        }
        self.captioner.play();
        let feed = Feed {
            source: self.source.clone(),
            selection: self.arguments.selection(),
            timeout: self.arguments.timeout(),
            media: self.outputs.media_target(),
            reconnects: !self.arguments.no_reconnect && self.source.can_be_reopened(),
            input: self.captioner.input(),
            events,
        };
        // It is not joined: it may wait for a connection, and it ends with the process.
        let started = feed.start();
        started.map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(())
    }
}
