// SPDX-License-Identifier: MIT OR Apache-2.0

//! The thread that records: a disk that is slow, or a network file system that hangs, delays nothing else.

use std::{
    io,
    sync::mpsc::{self, Receiver, SyncSender, TrySendError},
    thread::{self, JoinHandle},
};

use super::Recorder;
use crate::live::{caption::Caption, printer::Printer};

/// Captions that may wait to be written: some hours.
const QUEUE: usize = 4096;

/// A recorder on a thread of its own. Dropped, it waits until everything is written; a second Ctrl-C ends that.
pub struct BackgroundRecorder {
    queue: Option<SyncSender<Caption>>,
    thread: Option<JoinHandle<()>>,
    printer: Printer,
    is_full: bool,
}

impl BackgroundRecorder {
    /// Starts the thread, which tells `printer` what goes wrong.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn start(recorder: Recorder, printer: Printer) -> io::Result<Self> {
        let (queue, captions) = mpsc::sync_channel(QUEUE);
        let notices = printer.clone();
        let thread = thread::Builder::new()
            .name("nemostt-record".into())
            .spawn(move || run(recorder, &captions, &notices))?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
            printer,
            is_full: false,
        })
    }

    /// Records a final caption, without waiting.
    pub fn caption(&mut self, caption: &Caption) {
        let Some(queue) = &self.queue else {
            return;
        };
        let is_full = matches!(queue.try_send(caption.clone()), Err(TrySendError::Full(_)));
        if is_full && !self.is_full {
            self.printer
                .notice("the recording cannot be written in time; captions are lost until it can be again");
        }
        self.is_full = is_full;
    }
}

impl Drop for BackgroundRecorder {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was printed.
            let _ = thread.join();
        }
    }
}

fn run(mut recorder: Recorder, captions: &Receiver<Caption>, notices: &Printer) {
    for caption in captions {
        if let Some(notice) = recorder.caption(&caption) {
            notices.notice(&notice);
        }
    }
}
