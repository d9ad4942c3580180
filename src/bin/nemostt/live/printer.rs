// SPDX-License-Identifier: MIT OR Apache-2.0

//! The thread that prints. A terminal that was stopped (Ctrl-S), or a pager that waits for a key, delays nothing else.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nemostt::sync::lock;

use super::{caption::Caption, terminal::Terminal};

/// Finals and notices that may wait to be printed: some hours.
const QUEUE: usize = 4096;
/// How often to check for Ctrl-C at the end.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long printing may make no progress at the end, after Ctrl-C.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// Something to print.
enum Item {
    /// On standard output.
    Caption(Caption),
    /// A line on standard error.
    Notice(String),
}

/// Hands lines to the thread, and never waits for it.
#[derive(Clone)]
pub struct Printer(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Item>,
    /// Finals that did not fit.
    lost: u64,
    /// Items that were printed.
    printed: u64,
    /// Nothing follows.
    is_closed: bool,
    /// The thread has ended.
    is_done: bool,
    /// Why captions cannot be printed any more.
    error: Option<io::Error>,
}

impl Printer {
    /// Starts the thread: captions go to `terminal`, notices to `errors`.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn start<W: Write + Send + 'static>(
        mut terminal: Terminal<W>,
        mut errors: impl FnMut(&str) + Send + 'static,
    ) -> io::Result<Self> {
        let printer = Self(Arc::default());
        let shared = printer.0.clone();
        // It is not joined: it may wait for a terminal for ever, and it ends with the process.
        thread::Builder::new()
            .name("nemostt-print".into())
            .spawn(move || shared.run(&mut terminal, &mut errors))?;
        Ok(printer)
    }

    /// Shows a caption. One that is not final replaces one that waits.
    pub fn caption(&self, caption: &Caption) {
        let mut state = lock(&self.0.state);
        if let Some(Item::Caption(last)) = state.queue.back_mut().filter(|_| !caption.is_final)
            && !last.is_final
        {
            *last = caption.clone();
        } else if state.has_room() {
            state.queue.push_back(Item::Caption(caption.clone()));
        } else {
            state.lost += u64::from(caption.is_final);
        }
        self.0.changed.notify_all();
    }

    /// Prints a line on standard error.
    pub fn notice(&self, notice: &str) {
        let mut state = lock(&self.0.state);
        if state.has_room() {
            state.queue.push_back(Item::Notice(notice.into()));
        }
        self.0.changed.notify_all();
    }

    /// The error after which no captions are printed, once.
    pub fn take_error(&self) -> Option<io::Error> {
        lock(&self.0.state).error.take()
    }

    /// Waits until everything is printed; once `is_impatient`, not for an output that nobody reads.
    pub fn finish(&self, is_impatient: impl Fn() -> bool) {
        let mut state = lock(&self.0.state);
        state.is_closed = true;
        self.0.changed.notify_all();
        let (mut printed, mut since) = (state.printed, Instant::now());
        while !state.is_done {
            if state.printed != printed || !is_impatient() {
                (printed, since) = (state.printed, Instant::now());
            }
            if since.elapsed() > END_TIMEOUT {
                return;
            }
            state = self.0.wait(state, POLL_INTERVAL);
        }
    }
}

impl State {
    /// Once something was lost, everything is until the queue is empty: one gap with one notice instead of many.
    fn has_room(&self) -> bool {
        self.queue.len() < QUEUE && self.lost == 0
    }
}

impl Shared {
    fn run<W: Write>(&self, terminal: &mut Terminal<W>, errors: &mut impl FnMut(&str)) {
        let mut is_open = true;
        while let Some(item) = self.next() {
            let result = match item {
                _ if !is_open => Ok(()),
                Item::Caption(ref caption) => terminal.caption(caption),
                Item::Notice(_) => terminal.clear(),
            };
            if let Item::Notice(notice) = item {
                errors(&notice);
            }
            let mut state = lock(&self.state);
            state.printed += 1;
            if let Err(error) = result {
                is_open = false;
                state.error = Some(error);
            }
        }
        if is_open {
            // The session has ended.
            let _ = terminal.clear();
        }
        lock(&self.state).is_done = true;
        self.changed.notify_all();
    }

    /// Waits for the next item. `None` at the end.
    fn next(&self) -> Option<Item> {
        let mut state = lock(&self.state);
        loop {
            if let Some(item) = state.queue.pop_front() {
                return Some(item);
            }
            if state.lost > 0 {
                let lost = std::mem::take(&mut state.lost);
                return Some(Item::Notice(format!(
                    "standard output was not read in time: {lost} captions are missing there"
                )));
            }
            if state.is_closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>, time: Duration) -> MutexGuard<'s, State> {
        let waited = self.changed.wait_timeout(state, time);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;

    /// A writer that waits for a permission to write.
    struct Blocked {
        permission: Receiver<()>,
        written: Sender<String>,
    }

    impl Write for Blocked {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.permission.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            let _ = self.written.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Setup {
        printer: Printer,
        permission: Sender<()>,
        written: Receiver<String>,
        errors: Receiver<String>,
    }

    fn setup() -> Setup {
        let (permission, permissions) = mpsc::channel();
        let (texts, written) = mpsc::channel();
        let (notices, errors) = mpsc::channel();
        let writer = Blocked {
            permission: permissions,
            written: texts,
        };
        let terminal = Terminal::new(io::LineWriter::new(writer), || None);
        let errors_of = move |text: &str| {
            let _ = notices.send(text.to_owned());
        };
        Setup {
            printer: Printer::start(terminal, errors_of).unwrap(),
            permission,
            written,
            errors,
        }
    }

    fn caption(text: &str, is_final: bool) -> Caption {
        Caption {
            utterance: 0,
            text: text.into(),
            is_final,
            start: 0,
            end: 1,
            words: Vec::new(),
        }
    }

    #[test]
    fn an_output_that_is_not_read_delays_nothing() {
        let setup = setup();
        // Far more than fit.
        for number in 0..2 * QUEUE {
            setup.printer.caption(&caption("partial", false));
            setup.printer.caption(&caption(&number.to_string(), true));
        }
        for _ in 0..2 * QUEUE {
            setup.permission.send(()).unwrap();
        }
        setup.printer.finish(|| false);
        let notices: Vec<String> = setup.errors.try_iter().collect();
        assert!(
            notices.len() == 1 && notices[0].contains("captions are missing"),
            "{notices:?}"
        );
        assert_eq!(setup.written.try_iter().next().as_deref(), Some("0\n"));
        assert!(setup.printer.take_error().is_none());
    }

    #[test]
    fn an_output_that_is_not_read_ends_with_ctrl_c() {
        let setup = setup();
        setup.printer.caption(&caption("one", true));
        // Does not return otherwise.
        setup.printer.finish(|| true);
        assert!(setup.written.try_iter().next().is_none());
    }

    #[test]
    fn an_output_that_is_closed_is_told_once_and_notices_go_on() {
        let setup = setup();
        drop(setup.permission);
        setup.printer.caption(&caption("one", true));
        setup.printer.caption(&caption("two", true));
        setup.printer.notice("still here");
        setup.printer.finish(|| false);
        let error = setup.printer.take_error().map(|error| error.kind());
        assert_eq!(error, Some(io::ErrorKind::BrokenPipe));
        assert!(setup.printer.take_error().is_none());
        assert_eq!(setup.errors.try_iter().collect::<Vec<_>>(), ["still here"]);
    }
}
