// SPDX-License-Identifier: MIT OR Apache-2.0

//! The properties of phrases to boost, and the phrases.
//!
//! They are parsed, and their file is read, when a property is set or the element starts, so that the streaming thread never
//! waits for a file. Nobody waits for it with the settings locked, either: [`HotwordSettings::read`] works on a copy.

use std::{path::Path, sync::Arc};

use gst::{glib, prelude::*};
use nemostt::{Error, Hotwords};

use super::properties::read;

/// The values of the properties `hotwords…`.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::transcriber) struct HotwordSettings {
    /// Phrases, with weights.
    list: Option<String>,
    /// A file with more of them.
    file: Option<String>,
    /// Weight of phrases that have none of their own.
    weight: f32,
    /// How often one of the three was set: a file that is set again is read again.
    revision: u64,
    phrases: Phrases,
}

/// What the properties say.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::transcriber) struct Phrases {
    /// That of the settings from which they were read.
    pub(in crate::transcriber) revision: u64,
    /// The phrases, or why they cannot be used.
    pub(in crate::transcriber) list: Result<Arc<Hotwords>, String>,
}

impl Default for HotwordSettings {
    fn default() -> Self {
        Self {
            list: None,
            file: None,
            weight: Hotwords::DEFAULT_WEIGHT,
            revision: 0,
            phrases: Phrases {
                revision: 0,
                list: Ok(Arc::default()),
            },
        }
    }
}

impl HotwordSettings {
    /// Whether a property is one of these.
    pub(in crate::transcriber) fn has(name: &str) -> bool {
        ["hotwords", "hotwords-file", "hotwords-weight"].contains(&name)
    }

    /// Sets the property `name`. The phrases are what they were, until they are [read](Self::read) and
    /// [accepted](Self::accept).
    pub(super) fn set(&mut self, name: &str, value: &glib::Value) {
        self.revision += 1;
        match name {
            "hotwords" => self.list = read(value),
            "hotwords-file" => self.file = read::<Option<String>>(value).filter(|path| !path.is_empty()),
            _ => self.weight = read(value),
        }
    }

    /// The value of the property `name`.
    pub(super) fn get(&self, name: &str) -> glib::Value {
        match name {
            "hotwords" => self.list.to_value(),
            "hotwords-file" => self.file.to_value(),
            _ => self.weight.to_value(),
        }
    }

    /// Parses the list and reads the file.
    pub(in crate::transcriber) fn read(&self) -> Phrases {
        let loaded = Hotwords::load(self.list.as_deref(), self.file.as_deref().map(Path::new), self.weight);
        Phrases {
            revision: self.revision,
            list: loaded.map(Arc::new).map_err(|error| match error {
                Error::Read { .. } | Error::NotUtf8 { .. } => format!("hotwords-file: {error}"),
                error => error.to_string(),
            }),
        }
    }

    /// Sets the phrases, unless the properties have been set again since they were read.
    pub(in crate::transcriber) fn accept(&mut self, phrases: Phrases) {
        if phrases.revision == self.revision {
            self.phrases = phrases;
        }
    }

    /// The phrases that were read last.
    pub(in crate::transcriber) fn phrases(&self) -> &Phrases {
        &self.phrases
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_that_were_read_before_the_last_change_are_not_accepted() {
        let mut settings = HotwordSettings::default();
        settings.set("hotwords", &"one".to_value());
        let first = settings.read();
        settings.set("hotwords", &"one, two".to_value());
        let second = settings.read();
        settings.accept(second.clone());
        settings.accept(first);
        assert_eq!(settings.phrases(), &second);
        assert_eq!(second.list.unwrap().len(), 2);
    }

    #[test]
    fn file_is_read_when_asked_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("list.txt");
        let mut settings = HotwordSettings::default();
        settings.set("hotwords-file", &path.to_str().to_value());
        let missing = settings.read();
        assert!(
            missing
                .list
                .as_ref()
                .unwrap_err()
                .starts_with("hotwords-file: cannot read")
        );
        settings.accept(missing.clone());
        std::fs::write(&path, "one\ntwo").unwrap();
        assert_eq!(settings.phrases(), &missing);
        settings.accept(settings.read());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(settings.phrases().list.as_ref().unwrap().len(), 2);
    }
}
