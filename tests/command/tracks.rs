// SPDX-License-Identifier: MIT OR Apache-2.0

//! One track or one channel of several.

use std::fs;

use crate::support::{
    media::{make, mux},
    process::{complaint, written},
    transcribe::{ONE, TWO, clip_path, line, nemo, pipe, transcribe},
};

#[test]
fn a_track_is_chosen_by_number_or_language() {
    let directory = tempfile::tempdir().unwrap();
    let [one, two] = [ONE, TWO].map(clip_path);
    for (name, muxer) in [("two.mkv", "matroskamux"), ("two.ogg", "oggmux")] {
        let path = directory.path().join(name);
        let tracks = [
            (&*one, "flacenc", "language-code=en"),
            (&*two, "flacenc", "language-code=de"),
        ];
        mux(&path, muxer, &tracks);
        let notice = format!("nemostt: {} has 2 audio tracks: 1 (", path.display());

        let output = transcribe(&[], &path);
        assert!(output.status.success());
        let errors = std::str::from_utf8(&output.stderr).unwrap();
        assert!(
            errors.starts_with(&notice) && errors.contains("--audio-track"),
            "{errors}"
        );
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(
            errors.contains("en, ") && errors.contains("2 (") && errors.contains("1 channel"),
            "{errors}"
        );
        let chosen = if errors.contains("Track 1 is transcribed") {
            ONE
        } else {
            TWO
        };
        assert_eq!(String::from_utf8(output.stdout).unwrap(), line(chosen));
        assert_eq!(chosen, ONE, "{name}");

        for (wanted, clip) in [
            ("1", ONE),
            ("2", TWO),
            ("eng", ONE),
            ("de", TWO),
            ("ger", TWO),
            ("deu", TWO),
        ] {
            let output = transcribe(&["--audio-track", wanted], &path);
            assert_eq!(written(&output), line(clip), "{name} {wanted}");
        }
        for wanted in ["3", "fr"] {
            let output = transcribe(&["--audio-track", wanted], &path);
            let complaint = complaint(&output);
            assert!(
                complaint.contains(&format!("{wanted} in ")) && complaint.contains("2 ("),
                "{complaint}"
            );
        }
        let piped = pipe(&["--audio-track=de"], &fs::read(&path).unwrap());
        assert_eq!(written(&piped), line(TWO), "{name}");
    }
}

#[test]
fn a_channel_is_heard_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stereo.wav");
    let [one, two] = [ONE, TWO].map(clip_path).map(|path| path.display().to_string());
    let stereo = format!(
        "interleave name=i ! audioconvert ! wavenc ! filesink location={} \
         filesrc location={one} ! wavparse ! queue ! i. filesrc location={two} ! wavparse ! queue ! i.",
        path.display()
    );
    make(&stereo, |_| {});
    for (channel, clip) in [("left", ONE), ("1", ONE), ("right", TWO), ("2", TWO)] {
        let output = transcribe(&["--channel", channel], &path);
        assert!(written(&output).starts_with(&nemo(clip)), "{channel}: {output:?}");
        let output = pipe(&["--channel", channel], &fs::read(&path).unwrap());
        assert!(written(&output).starts_with(&nemo(clip)), "{channel}: {output:?}");
    }
    let output = transcribe(&["--channel", "3"], &path);
    let complaint = complaint(&output);
    assert!(
        complaint.contains("no channel 3") && complaint.contains("2 channels"),
        "{complaint}"
    );
}
