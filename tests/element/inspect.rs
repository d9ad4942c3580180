// SPDX-License-Identifier: MIT OR Apache-2.0

//! The output of `gst-inspect-1.0 nemostt` is part of the interface: changes must be intentional.
//!
//! `UPDATE_INSPECT=1 cargo test --features triton --test element inspect` updates the file.

use std::fmt::Write;

use gst::{glib, prelude::*};

use crate::harness;

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/inspect.txt");

fn describe() -> String {
    harness::init();
    let element = gst::ElementFactory::make("nemostt").build().unwrap();
    let factory = element.factory().unwrap();
    let mut text = String::new();
    for key in ["long-name", "klass", "description", "author"] {
        writeln!(text, "{key}: {}", factory.metadata(key).unwrap()).unwrap();
    }
    for template in element.pad_template_list() {
        writeln!(text, "\npad {}: {}", template.name_template(), template.caps()).unwrap();
    }
    for property in element.list_properties() {
        // Without those of the parent classes.
        if property.owner_type() == element.type_() {
            describe_property(&mut text, &property);
        }
    }
    text
}

fn describe_property(text: &mut String, property: &glib::ParamSpec) {
    let flags = property.flags();
    let changeable = match () {
        () if !flags.contains(glib::ParamFlags::WRITABLE) => "read-only",
        () if flags.contains(gst::PARAM_FLAG_MUTABLE_PLAYING) => "any state",
        () if flags.contains(gst::PARAM_FLAG_MUTABLE_READY) => "NULL and READY",
        () => "unspecified",
    };
    let default = match property.value_type().is_a(glib::Type::BOXED) {
        // GStreamer does not convert a missing structure to a string.
        true => None,
        false => {
            let default = property.default_value().transform::<String>().unwrap();
            default.get::<Option<String>>().unwrap()
        }
    };
    writeln!(
        text,
        "\n{}: {}, default {}, changeable in {changeable}\n  {}\n  {}",
        property.name(),
        property.value_type(),
        default.as_deref().unwrap_or("none"),
        property.nick(),
        property.blurb().unwrap()
    )
    .unwrap();
    if let Some(class) = glib::EnumClass::with_type(property.value_type()) {
        for value in class.values() {
            writeln!(text, "    {}: {}", value.nick(), value.name()).unwrap();
        }
    }
}

#[test]
fn description_matches_the_committed_file() {
    let found = describe();
    if std::env::var_os("UPDATE_INSPECT").is_some() {
        std::fs::write(COMMITTED, &found).unwrap();
    }
    let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
    assert_eq!(
        found, committed,
        "if this is intended: UPDATE_INSPECT=1 cargo test --features triton --test element inspect"
    );
}

#[test]
fn properties_document_units_and_mutability() {
    let described = describe();
    assert!(!described.contains("unspecified"), "{described}");
    harness::init();
    let element = gst::ElementFactory::make("nemostt").build().unwrap();
    for property in element
        .list_properties()
        .iter()
        .filter(|p| p.owner_type() == element.type_())
    {
        let blurb = property.blurb().unwrap();
        let counts = [
            "threads",
            "max-batch",
            "max-streams",
            "max-symbols",
            "max-utterance-chars",
            "cue-lines",
            "cue-columns",
            "cue-reading-speed",
            "partial-stability",
            "beam-size",
            "n-best",
        ]
        .contains(&property.name());
        let is_time = property.value_type() == u32::static_type() && !counts;
        assert!(
            !is_time || blurb.contains("milliseconds"),
            "{}: {blurb}",
            property.name()
        );
    }
}
