// SPDX-License-Identifier: MIT OR Apache-2.0

//! ONNX Runtime's log, and what this crate writes to it.

use std::{
    cell::RefCell,
    io::{self, Write},
    sync::OnceLock,
};

use ort::{environment::Environment, logging::LogLevel as OrtLevel};

/// Severity of a line of ONNX Runtime's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum LogLevel {
    Verbose,
    Info,
    Warning,
    Error,
}

type Logger = Box<dyn Fn(LogLevel, &str) + Send + Sync>;
static LOGGER: OnceLock<Logger> = OnceLock::new();

thread_local! {
    /// Errors that ONNX Runtime logs on this thread, while they are [collected](collect_errors).
    static COLLECTED: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Sends ONNX Runtime's log to `logger` instead of stderr, where only errors are written. Takes effect if called before
/// the first model is loaded; only the first call counts.
pub fn set_runtime_logger(logger: impl Fn(LogLevel, &str) + Send + Sync + 'static) {
    // Only the first call counts.
    let _ = LOGGER.set(Box::new(logger));
}

/// Lets ONNX Runtime not even format lines that nothing reads.
pub(super) fn limit(environment: &Environment) {
    if LOGGER.get().is_none() {
        environment.set_log_level(OrtLevel::Error);
    }
}

/// Takes a line of ONNX Runtime's log.
pub(super) fn forward(level: OrtLevel, message: &str) {
    let level = match level {
        OrtLevel::Verbose => LogLevel::Verbose,
        OrtLevel::Info => LogLevel::Info,
        OrtLevel::Warning => LogLevel::Warning,
        OrtLevel::Error | OrtLevel::Fatal => LogLevel::Error,
    };
    if level == LogLevel::Error && collect(message) {
        // The caller reports it. It is no error if there is another device.
        return log(LogLevel::Info, message);
    }
    match LOGGER.get() {
        Some(logger) => logger(level, message),
        // Nothing can be done if stderr is closed.
        None if level == LogLevel::Error => drop(writeln!(io::stderr(), "ONNX Runtime: {message}")),
        None => {}
    }
}

/// Logs to where ONNX Runtime's log goes.
pub(crate) fn log(level: LogLevel, message: &str) {
    if let Some(logger) = LOGGER.get() {
        logger(level, message);
    }
}

/// Calls `function`, and returns the errors that ONNX Runtime logged on this thread meanwhile: why a library could not be
/// loaded is in no other place.
pub(super) fn collect_errors<T>(function: impl FnOnce() -> T) -> (T, Vec<String>) {
    COLLECTED.set(Some(Vec::new()));
    let result = function();
    (result, COLLECTED.take().unwrap_or_default())
}

/// Adds `message` to the errors that are collected on this thread. Returns whether there are such.
fn collect(message: &str) -> bool {
    let added = COLLECTED.try_with(|collected| match &mut *collected.borrow_mut() {
        Some(errors) => {
            errors.push(message.into());
            true
        }
        None => false,
    });
    // A thread that is ending logs as usual.
    added.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_of_the_call_are_collected() {
        forward(OrtLevel::Error, "before");
        let (result, errors) = collect_errors(|| {
            forward(OrtLevel::Warning, "a warning");
            forward(OrtLevel::Error, "an error");
            forward(OrtLevel::Fatal, "another");
            std::thread::spawn(|| forward(OrtLevel::Error, "elsewhere"))
                .join()
                .is_ok()
        });
        forward(OrtLevel::Error, "after");
        assert!(result);
        assert_eq!(errors, ["an error", "another"]);
        assert_eq!(collect_errors(|| ()).1, [""; 0]);
    }
}
