// SPDX-License-Identifier: MIT OR Apache-2.0

//! What GStreamer says when it cannot decode a file, said so that the reader knows what to do next.

use gst_pbutils::MissingPluginMessage;

use super::Location;
use crate::Result;

/// Listens to the messages about one file or URL.
pub struct BusErrors {
    place: String,
    /// The URL with the password in it, which GStreamer may tell.
    secret: Option<String>,
    is_url: bool,
    is_standard_input: bool,
    /// What lacks a plugin, in GStreamer's words.
    missing: Vec<String>,
}

impl BusErrors {
    pub fn new(place: &Location) -> Self {
        Self {
            place: place.to_string(),
            secret: match place {
                Location::Url(url) => Some(url.clone()),
                _ => None,
            },
            is_url: matches!(place, Location::Url(_)),
            is_standard_input: *place == Location::StandardInput,
            missing: Vec::new(),
        }
    }

    /// The file or URL.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Takes the next message.
    ///
    /// # Errors
    /// What is wrong, and the cure, if the message means that there will be no samples.
    pub fn handle(&mut self, message: &gst::MessageRef) -> Result<()> {
        match message.view() {
            gst::MessageView::Element(_) => {
                if let Ok(missing) = MissingPluginMessage::parse(message) {
                    self.missing.push(missing.description().into());
                }
                Ok(())
            }
            gst::MessageView::Error(error) => Err(self.explain(error).into()),
            _ => Ok(()),
        }
    }

    fn explain(&self, message: &gst::message::Error) -> String {
        let place = &self.place;
        let error = message.error();
        let codec = error.matches(gst::StreamError::CodecNotFound) || error.matches(gst::CoreError::MissingPlugin);
        let raw = match self.is_standard_input {
            true => ". If it is raw samples, say so with --raw",
            false => "",
        };
        if codec || !self.missing.is_empty() {
            return format!("{}{raw}", self.lack());
        }
        if error.matches(gst::StreamError::TypeNotFound) || error.matches(gst::StreamError::WrongType) {
            return format!(
                "{place} is no audio or video file, or is damaged: GStreamer does not know its format{raw}"
            );
        }
        let hide = |text: &str| match &self.secret {
            Some(url) => text.replace(url.as_str(), place),
            None => text.into(),
        };
        let debug = message.debug();
        // The last line is the reason; those before it say where in GStreamer.
        let reason = debug
            .as_deref()
            .and_then(|debug| debug.lines().last())
            .unwrap_or_default();
        let reason = hide(reason);
        let (problem, cure) = match self.is_url {
            true => ("cannot open", "is the address right, and does its server answer?"),
            false => ("cannot decode", "is the file whole?"),
        };
        format!(
            "{problem} {place}: {} ({reason}); {cure}{raw}",
            error.message().trim_end_matches('.')
        )
    }

    /// Why no track can be chosen, where there is something else.
    pub fn no_track(&self, others: &[String]) -> String {
        let place = &self.place;
        match (self.missing.is_empty(), others) {
            (false, _) => self.lack(),
            (true, []) => format!("{place} has no audio track, nor anything else that GStreamer knows"),
            (true, others) => format!(
                "{place} has no audio track: all there is in it is {}",
                others.join(", ")
            ),
        }
    }

    fn lack(&self) -> String {
        let what = match self.missing.as_slice() {
            [] => "a plugin whose name it does not tell".into(),
            missing => missing.join(", "),
        };
        format!(
            "{} needs what this GStreamer lacks: {what}. Install the plugin that has it; on Debian and Ubuntu it is most \
             often in gstreamer1.0-plugins-good, gstreamer1.0-libav, gstreamer1.0-plugins-bad or gstreamer1.0-plugins-ugly",
            self.place
        )
    }
}
