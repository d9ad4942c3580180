// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sets properties to values in their ranges, or in a smaller range if larger values would only make a run slower.

use gst::prelude::*;

use crate::{
    acts::Property,
    player::{decoder, lookahead, path},
};

pub fn set(element: &gst::Element, property: Property) {
    let number = |name, value: u32| element.set_property(name, value);
    match property {
        Property::EosPadding(ms) => number("eos-padding", u32::from(ms) % 1_000),
        Property::Latency(ms) => number("latency", u32::from(ms) % 60_001),
        Property::GapThreshold(ms) => number("gap-threshold", u32::from(ms) % 2_000),
        Property::WordHold(ms) => number("word-hold", u32::from(ms) % 60_001),
        Property::EndpointSilence(ms) => number("endpoint-silence", ms.into()),
        Property::Output(by_word) => {
            element.set_property_from_str("output", if by_word { "words" } else { "utterances" });
        }
        Property::PostMessages(posts) => element.set_property("post-messages", posts),
        Property::PostPartials(posts) => element.set_property("post-partials", posts),
        Property::Overload(skips) => element.set_property_from_str("overload", if skips { "skip" } else { "block" }),
        Property::Lateness(ms) => number("lateness", ms % 600_001),
        Property::Language(number) => {
            let languages = [Some("en-US"), Some("de-DE"), Some("auto"), Some("tlh"), Some(""), None];
            element.set_property("language-code", languages[usize::from(number) % languages.len()]);
        }
        Property::MaxUtterance(ms) => number("max-utterance", ms.into()),
        Property::MaxUtteranceChars(chars) => number("max-utterance-chars", chars.into()),
        Property::MinWord(ms) => number("min-word-duration", u32::from(ms) % 10_001),
        Property::HoldUntilNext(holds) => element.set_property("hold-until-next", holds),
        Property::Lookahead(value) => element.set_property("lookahead", lookahead(value)),
        Property::Decoder(value) => element.set_property_from_str("decoder", decoder(value)),
        Property::Model(model) => {
            let path = model.map_or_else(|| "/nonexistent".to_owned(), path);
            element.set_property("model-path", path);
        }
        Property::Get => {
            for spec in element.list_properties() {
                if spec.flags().contains(gst::glib::ParamFlags::READABLE) {
                    element.property_value(spec.name());
                }
            }
        }
    }
}
