// SPDX-License-Identifier: MIT OR Apache-2.0

//! Turns GStreamer's errors into messages that say how to fix the problem.

use gst_pbutils::MissingPluginMessage;

use super::{
    Location,
    source_error::{Failure, SourceError},
};
use crate::Result;

/// Handles the bus messages about one file or URL.
pub struct BusErrors {
    location: String,
    /// The URL with its password, which GStreamer may print.
    secret: Option<String>,
    is_url: bool,
    is_standard_input: bool,
    /// Descriptions of missing plugins.
    missing: Vec<String>,
}

impl BusErrors {
    pub fn new(location: &Location) -> Self {
        Self {
            location: location.to_string(),
            secret: match location {
                Location::Url(url) => Some(url.clone()),
                _ => None,
            },
            is_url: matches!(location, Location::Url(_)),
            is_standard_input: *location == Location::StandardInput,
            missing: Vec::new(),
        }
    }

    /// The file or URL.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Handles a message.
    ///
    /// # Errors
    /// The problem and how to fix it, if the message means that there will be no samples.
    pub fn handle(&mut self, message: &gst::MessageRef) -> Result<()> {
        match message.view() {
            gst::MessageView::Element(_) => {
                if let Ok(missing) = MissingPluginMessage::parse(message) {
                    self.missing.push(missing.description().into());
                }
                Ok(())
            }
            gst::MessageView::Error(error) => Err(SourceError {
                message: self.explain(error),
                failure: self.classify(&error.error()),
            }
            .into()),
            _ => Ok(()),
        }
    }

    /// Whether opening the source again may help.
    fn classify(&self, error: &gst::glib::Error) -> Failure {
        let permanent = [
            gst::StreamError::CodecNotFound,
            gst::StreamError::TypeNotFound,
            gst::StreamError::WrongType,
        ];
        let is_permanent = permanent.iter().any(|&kind| error.matches(kind))
            || error.matches(gst::CoreError::MissingPlugin)
            || error.matches(gst::ResourceError::NotFound)
            || !self.missing.is_empty();
        match is_permanent {
            _ if error.matches(gst::ResourceError::NotAuthorized) => Failure::Refused,
            true => Failure::Permanent,
            false => Failure::Transient,
        }
    }

    fn explain(&self, message: &gst::message::Error) -> String {
        let location = &self.location;
        let error = message.error();
        let codec = error.matches(gst::StreamError::CodecNotFound) || error.matches(gst::CoreError::MissingPlugin);
        let raw = match self.is_standard_input {
            true => ". If it is raw samples, use --raw",
            false => "",
        };
        if codec || !self.missing.is_empty() {
            return format!("{}{raw}", self.missing_plugin());
        }
        if error.matches(gst::StreamError::TypeNotFound) || error.matches(gst::StreamError::WrongType) {
            return format!(
                "{location} is not an audio or video file, or is damaged: GStreamer does not know its format{raw}"
            );
        }
        let hide = |text: &str| match &self.secret {
            Some(url) => text.replace(url.as_str(), location),
            None => text.into(),
        };
        let debug = message.debug();
        // The last line is the reason, those before it are locations in GStreamer's source.
        let reason = debug
            .as_deref()
            .and_then(|debug| debug.lines().last())
            .unwrap_or_default();
        let reason = hide(reason);
        let (problem, hint) = match self.is_url {
            true => ("cannot open", "is the address correct, and does the server respond?"),
            false => ("cannot decode", "is the file complete?"),
        };
        format!(
            "{problem} {location}: {} ({reason}); {hint}{raw}",
            error.message().trim_end_matches('.')
        )
    }

    /// The error if there is no audio track, with the other streams.
    pub fn no_track(&self, others: &[String]) -> String {
        let location = &self.location;
        match (self.missing.is_empty(), others) {
            (false, _) => self.missing_plugin(),
            (true, []) => format!("{location} has no audio track, nor any other stream that GStreamer knows"),
            (true, others) => format!("{location} has no audio track, only {}", others.join(", ")),
        }
    }

    fn missing_plugin(&self) -> String {
        let what = match self.missing.as_slice() {
            [] => "an unknown plugin".into(),
            missing => missing.join(", "),
        };
        format!(
            "{} needs a GStreamer plugin that is not installed: {what}. On Debian and Ubuntu it is usually in \
             gstreamer1.0-plugins-good, gstreamer1.0-libav, gstreamer1.0-plugins-bad or gstreamer1.0-plugins-ugly",
            self.location
        )
    }
}
