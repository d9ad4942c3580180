// SPDX-License-Identifier: MIT OR Apache-2.0

//! The properties of caption cues, and the rules that follow from them.

use std::time::Duration;

use gst::{glib, prelude::*};
use nemostt::cues::{CueMode, CueRules};

use super::properties::read;
use crate::transcriber::{downstream::Downstream, enums::NemoSttCueMode};

/// The values of the properties `cue-…`. Durations are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transcriber) struct CueSettings {
    pub(in crate::transcriber) mode: NemoSttCueMode,
    lines: u32,
    /// 0: as many as downstream can take.
    columns: u32,
    min_duration: u32,
    max_duration: u32,
    reading_speed: u32,
    gap: u32,
    delay: u32,
}

impl Default for CueSettings {
    fn default() -> Self {
        let rules = CueRules::default();
        let milliseconds = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        Self {
            mode: NemoSttCueMode::default(),
            lines: rules.lines as u32,
            columns: 0,
            min_duration: milliseconds(rules.min_duration),
            max_duration: milliseconds(rules.max_duration),
            reading_speed: rules.reading_speed,
            gap: milliseconds(rules.gap),
            delay: milliseconds(rules.delay),
        }
    }
}

impl CueSettings {
    /// The rules of cues for what is `downstream`.
    pub(in crate::transcriber) fn rules(&self, downstream: Downstream) -> CueRules {
        let milliseconds = |value: u32| Duration::from_millis(value.into());
        let mode = CueMode::from(self.mode);
        CueRules {
            mode,
            lines: self.lines as usize,
            columns: match self.columns as usize {
                0 => downstream.columns(mode),
                columns => downstream.limit(mode).map_or(columns, |limit| columns.min(limit)),
            },
            min_duration: milliseconds(self.min_duration),
            max_duration: milliseconds(self.max_duration),
            reading_speed: self.reading_speed,
            gap: milliseconds(self.gap),
            delay: milliseconds(self.delay),
        }
    }

    /// How long a cue waits for its words.
    pub(in crate::transcriber) fn delay(&self) -> gst::ClockTime {
        gst::ClockTime::from_mseconds(self.delay.into())
    }

    /// An error if rules contradict each other: property, value, and what is possible.
    pub(in crate::transcriber) fn contradiction(&self) -> Option<String> {
        (self.min_duration > self.max_duration).then(|| {
            format!(
                "cue-min-duration is {} ms, longer than cue-max-duration, {} ms: lower the first or raise the second",
                self.min_duration, self.max_duration
            )
        })
    }

    /// A warning if `downstream` cannot take lines as long as they are to be.
    pub(in crate::transcriber) fn too_many_columns(&self, downstream: Downstream) -> Option<String> {
        let limit = downstream.limit(CueMode::from(self.mode))?;
        (self.columns as usize > limit).then(|| {
            format!(
                "cue-columns is {}, but the caption encoder downstream takes {limit} in this cue-mode: lines have at most {limit} \
                 columns",
                self.columns
            )
        })
    }

    /// The descriptions of the properties. Their ranges are those of [`CueRules`].
    pub(super) fn param_specs() -> Vec<glib::ParamSpec> {
        let default = Self::default();
        vec![
            glib::ParamSpecEnum::builder_with_default("cue-mode", default.mode)
                .nick("Cue Mode")
                .blurb("How cues appear with output=cues; the terms are those of CEA-608")
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt::builder("cue-lines")
                .nick("Cue Lines")
                .blurb("Most lines of a cue, or on the screen in roll-up and paint-on")
                .minimum(1)
                .maximum(15)
                .default_value(default.lines)
                .mutable_playing()
                .build(),
            Self::columns_spec(default.columns),
            glib::ParamSpecUInt::builder("cue-min-duration")
                .nick("Cue Minimum Duration")
                .blurb("Shortest duration of a cue in milliseconds; in paint-on, of everything until the screen is cleared")
                .minimum(1)
                .maximum(60_000)
                .default_value(default.min_duration)
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt::builder("cue-max-duration")
                .nick("Cue Maximum Duration")
                .blurb("Longest duration of a cue in milliseconds; in paint-on, of everything until the screen is cleared")
                .minimum(1)
                .maximum(60_000)
                .default_value(default.max_duration)
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt::builder("cue-reading-speed")
                .nick("Cue Reading Speed")
                .blurb(
                    "Most characters per second that viewers have to read, unless the next cue would then be more than 1.5 s \
                     late; 0: no limit",
                )
                .maximum(1_000)
                .default_value(default.reading_speed)
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt::builder("cue-gap")
                .nick("Cue Gap")
                .blurb("Time without text between two cues in milliseconds; none in roll-up")
                .maximum(10_000)
                .default_value(default.gap)
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt::builder("cue-delay")
                .nick("Cue Delay")
                .blurb(
                    "Time in milliseconds that a cue waits for its words, counted from its start; part of the reported latency \
                     with output=cues",
                )
                .maximum(60_000)
                .default_value(default.delay)
                .mutable_playing()
                .build(),
        ]
    }

    /// 0 or 8 to 255: a `GParamSpec` has only one range, so 1 to 7 are taken as 8.
    fn columns_spec(default: u32) -> glib::ParamSpec {
        glib::ParamSpecUInt::builder("cue-columns")
            .nick("Cue Columns")
            .blurb(
                "Most columns of a line, at least 8; 0: 42. A caption encoder downstream limits them to what it can take (32 \
                 for CEA-608, 31 in roll-up and for CEA-708)",
            )
            .maximum(255)
            .default_value(default)
            .mutable_playing()
            .build()
    }

    /// Sets the property `name`, which is one of [`param_specs`](Self::param_specs).
    pub(super) fn set(&mut self, name: &str, value: &glib::Value) {
        match name {
            "cue-mode" => self.mode = read(value),
            "cue-lines" => self.lines = read(value),
            "cue-columns" => {
                let columns: u32 = read(value);
                self.columns = if columns == 0 { 0 } else { columns.max(8) };
            }
            "cue-min-duration" => self.min_duration = read(value),
            "cue-max-duration" => self.max_duration = read(value),
            "cue-reading-speed" => self.reading_speed = read(value),
            "cue-gap" => self.gap = read(value),
            "cue-delay" => self.delay = read(value),
            _ => unimplemented!("property {name}"),
        }
    }

    /// The value of the property `name`.
    pub(super) fn get(&self, name: &str) -> glib::Value {
        match name {
            "cue-mode" => self.mode.to_value(),
            "cue-lines" => self.lines.to_value(),
            "cue-columns" => self.columns.to_value(),
            "cue-min-duration" => self.min_duration.to_value(),
            "cue-max-duration" => self.max_duration.to_value(),
            "cue-reading-speed" => self.reading_speed.to_value(),
            "cue-gap" => self.gap.to_value(),
            "cue-delay" => self.delay.to_value(),
            _ => unimplemented!("property {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_properties_are_those_of_the_rules() {
        for spec in CueSettings::param_specs() {
            let Some(range) = spec.downcast_ref::<glib::ParamSpecUInt>() else {
                continue;
            };
            for value in [range.minimum(), range.maximum()] {
                let mut settings = CueSettings {
                    max_duration: 60_000,
                    min_duration: 1,
                    ..CueSettings::default()
                };
                settings.set(spec.name(), &value.to_value());
                let rules = settings.rules(Downstream::Display);
                if settings.contradiction().is_none() {
                    assert_eq!(rules.validate(), Ok(()), "{} = {value}", spec.name());
                }
            }
        }
        assert_eq!(CueSettings::default().rules(Downstream::Display), CueRules::default());
    }

    #[test]
    fn a_contradiction_names_both_properties() {
        let mut settings = CueSettings::default();
        assert_eq!(settings.contradiction(), None);
        settings.set("cue-max-duration", &500_u32.to_value());
        assert_eq!(
            settings.contradiction().as_deref(),
            Some(
                "cue-min-duration is 833 ms, longer than cue-max-duration, 500 ms: lower the first or raise the second"
            )
        );
    }

    #[test]
    fn columns_depend_on_what_is_downstream() {
        let mut settings = CueSettings::default();
        assert_eq!(settings.rules(Downstream::Display).columns, 42);
        assert_eq!(settings.rules(Downstream::Cea608).columns, 32);
        assert_eq!(settings.rules(Downstream::PlainText).columns, 31);
        settings.set("cue-columns", &5_u32.to_value());
        assert_eq!(settings.rules(Downstream::Cea608).columns, 8);
        assert_eq!(settings.too_many_columns(Downstream::Cea608), None);
    }

    #[test]
    fn columns_are_no_more_than_an_encoder_takes() {
        let mut settings = CueSettings::default();
        settings.set("cue-columns", &40_u32.to_value());
        assert_eq!(settings.rules(Downstream::Display).columns, 40);
        assert_eq!(settings.too_many_columns(Downstream::Display), None);
        assert_eq!(settings.rules(Downstream::Cea608).columns, 32);
        assert_eq!(settings.rules(Downstream::PlainText).columns, 31);
        assert_eq!(
            settings.too_many_columns(Downstream::Cea608).as_deref(),
            Some(
                "cue-columns is 40, but the caption encoder downstream takes 32 in this cue-mode: lines have at most 32 columns"
            )
        );
        settings.set("cue-mode", &NemoSttCueMode::RollUp.to_value());
        assert_eq!(settings.rules(Downstream::Cea608).columns, 31);
    }
}
