// SPDX-License-Identifier: MIT OR Apache-2.0

//! A device that was chosen automatically fails: text goes on, with one warning on the bus.

use nemostt::fuzzing::FailingDevice;

use crate::{common::clip_s16, harness::Harness, nemo_text, pipeline::copy_model};

/// The warnings that were posted since the last call.
fn warnings(harness: &Harness) -> Vec<String> {
    let messages = harness.messages();
    let warnings = messages.iter().filter_map(|message| match message.view() {
        gst::MessageView::Warning(warning) => {
            assert!(warning.error().matches(gst::ResourceError::Failed), "{warning:?}");
            Some(warning.error().message().to_owned())
        }
        gst::MessageView::Error(error) => panic!("{error:?}"),
        _ => None,
    });
    warnings.collect()
}

#[test]
fn text_goes_on_with_one_warning_of_each_element() {
    let model = copy_model("trained");
    let device = FailingDevice::of_model(model.path());
    let properties = format!("lookahead=480 model-path={}", model.path().display());
    let elements = [(); 2].map(|()| Harness::play(&properties));
    let samples = clip_s16("u1_command");
    let (early, late) = samples.split_at(samples.len() / 2);
    for harness in &elements {
        harness.speak(early, 1_600);
        assert_eq!(warnings(harness), [""; 0]);
    }
    let before = elements.each_ref().map(Harness::text);
    device.fail_after(0);
    let start = crate::harness::time_of(early.len());
    for (harness, before) in elements.iter().zip(before) {
        harness.speak_from(start, late, 1_600);
        harness.eos();
        let found = warnings(harness);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("device \"cuda\" failed"), "{found:?}");
        assert!(!before.is_empty());
        assert_eq!(format!("{before} {}", harness.text()), nemo_text("u1_command", 6));
    }
}
