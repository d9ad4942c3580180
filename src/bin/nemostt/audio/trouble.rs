// SPDX-License-Identifier: MIT OR Apache-2.0

//! What GStreamer says when it cannot decode a file, said so that the reader knows what to do next.

use std::path::Path;

use gst::prelude::*;
use gst_pbutils::MissingPluginMessage;

use crate::Result;

/// Name of the message that says a file is known to hold no sound.
const NO_SOUND: &str = "nemostt-no-sound";

/// Listens to the messages about one file.
pub struct Trouble {
    path: String,
    /// What lacks a plugin, in GStreamer's words.
    missing: Vec<String>,
}

/// Says on the bus that `source` has no more streams, and none of sound.
pub fn no_sound(source: &gst::Element) {
    let message = gst::message::Application::builder(gst::Structure::new_empty(NO_SOUND)).src(source);
    // Fails without a bus only, that is, when nobody listens any more.
    let _ = source.post_message(message.build());
}

impl Trouble {
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.display().to_string(),
            missing: Vec::new(),
        }
    }

    /// The file.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Takes the next message.
    ///
    /// # Errors
    /// What is wrong, and the cure, if the message means that there will be no samples.
    pub fn see(&mut self, message: &gst::MessageRef) -> Result<()> {
        match message.view() {
            gst::MessageView::Element(_) => {
                if let Ok(missing) = MissingPluginMessage::parse(message) {
                    self.missing.push(missing.description().into());
                }
                Ok(())
            }
            gst::MessageView::Application(application)
                if application.structure().is_some_and(|s| s.name() == NO_SOUND) =>
            {
                Err(self.silent().into())
            }
            gst::MessageView::Error(error) => Err(self.explain(error).into()),
            _ => Ok(()),
        }
    }

    fn explain(&self, message: &gst::message::Error) -> String {
        let path = &self.path;
        let error = message.error();
        let codec = error.matches(gst::StreamError::CodecNotFound) || error.matches(gst::CoreError::MissingPlugin);
        if codec || !self.missing.is_empty() {
            return self.silent();
        }
        if error.matches(gst::StreamError::TypeNotFound) || error.matches(gst::StreamError::WrongType) {
            return format!("{path} is no audio or video file, or is damaged: GStreamer does not know its format");
        }
        let debug = message.debug();
        // The last line is the reason; those before it say where in GStreamer.
        let reason = debug
            .as_deref()
            .and_then(|debug| debug.lines().last())
            .unwrap_or_default();
        format!(
            "cannot decode {path}: {} ({reason}); is the file whole?",
            error.message().trim_end_matches('.')
        )
    }

    /// Why there is no sound.
    fn silent(&self) -> String {
        let path = &self.path;
        if self.missing.is_empty() {
            return format!("{path} holds no sound: no audio stream is in it");
        }
        format!(
            "{path} needs what this GStreamer lacks: {}. Install the plugin that has it; on Debian and Ubuntu it is most \
             often in gstreamer1.0-plugins-good, gstreamer1.0-libav, gstreamer1.0-plugins-bad or gstreamer1.0-plugins-ugly",
            self.missing.join(", ")
        )
    }
}
