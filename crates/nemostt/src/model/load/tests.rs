// SPDX-License-Identifier: MIT OR Apache-2.0

//! A device fails while a model is loaded.

#![allow(clippy::unwrap_used)] // a failed unwrap is how a test fails

use std::{fs, sync::Arc};

use super::*;
use crate::model::{Cancellation, PrecisionChoice};
use nemostt_compiler::Precision;

/// The demo model in a directory of its own.
struct Setup {
    directory: tempfile::TempDir,
    device: Arc<FailingDevice>,
}

impl Setup {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-model");
        for file in fs::read_dir(model).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), directory.path().join(file.file_name())).unwrap();
        }
        let device = FailingDevice::of_model(directory.path());
        Self { directory, device }
    }

    fn load(&self, options: &Options) -> Result<Model> {
        Model::load(self.directory.path(), options)
    }
}

fn options(device: Device) -> Options {
    Options {
        lookahead: Some(80),
        threads: 1,
        device,
        ..Default::default()
    }
}

/// What makes the device fail, and what it says then.
type Failure = (fn(&FailingDevice), &'static str);

/// How the device fails: as it gets a graph, or in the first runs, which warm it up.
const FAILURES: [Failure; 3] = [
    (FailingDevice::refuse_graphs, "CUDNN_STATUS_INTERNAL_ERROR"),
    (|device| device.fail_after(0), "unspecified launch failure"),
    (|device| device.fail_after(1), "unspecified launch failure"),
];

#[test]
fn model_runs_on_the_cpu_if_the_chosen_device_fails_while_it_is_loaded() {
    for (fail, _) in FAILURES {
        for decoder in [DecoderKind::Rnnt, DecoderKind::Ctc] {
            let options = Options {
                decoder,
                ..options(Device::Auto)
            };
            let setup = Setup::new();
            assert_eq!(setup.load(&options).unwrap().config.device, Device::Cuda(0));
            fail(&setup.device);
            let model = setup.load(&options).unwrap();
            // As if the CPU had been chosen: nothing is left of the device.
            let on_cpu = Options {
                device: Device::Cpu,
                ..options
            };
            assert!(model.config == setup.load(&on_cpu).unwrap().config && model.fallback.is_none());
        }
    }
}

/// Only the CPU uses it.
#[test]
fn int8_is_used_where_the_cpu_takes_over() {
    let setup = Setup::new();
    setup.device.refuse_graphs();
    let model = setup.load(&Options {
        precision: PrecisionChoice::Int8,
        ..options(Device::Auto)
    });
    assert_eq!(model.unwrap().config.precision, Precision::Int8);
}

#[test]
fn device_that_was_asked_for_is_named_with_its_failure() {
    for (fail, reason) in FAILURES {
        let setup = Setup::new();
        fail(&setup.device);
        let error = setup.load(&options(Device::Cuda(0))).err().unwrap();
        let message = error.to_string();
        assert!(
            matches!(
                error,
                Error::DeviceFailed {
                    device: Device::Cuda(0),
                    ..
                }
            ),
            "{message}"
        );
        for part in ["device \"cuda\" failed to load the model", reason, "device=cpu"] {
            assert!(message.contains(part), "\"{part}\" is not in: {message}");
        }
    }
}

#[test]
fn fault_of_the_model_is_not_the_device() {
    for device in [Device::Auto, Device::Cuda(0)] {
        let setup = Setup::new();
        setup.device.refuse_graphs();
        let unknown = Options {
            lookahead: Some(81),
            ..options(device)
        };
        assert!(matches!(setup.load(&unknown), Err(Error::Lookahead { .. })));
        let vocabulary = setup.directory.path().join("tokens.txt");
        fs::write(vocabulary, "a 0\n").unwrap();
        // The joint, which has the number of tokens, is loaded on the CPU before the encoder.
        let error = setup.load(&options(device)).err().unwrap().to_string();
        assert!(error.contains("tokens.txt"), "{error}");
    }
}

#[test]
fn cancelled_load_does_not_begin_again_on_the_cpu() {
    let setup = Setup::new();
    let cancellation = Cancellation::default();
    cancellation.cancel();
    let options = Options {
        cancellation,
        ..options(Device::Auto)
    };
    let error = setup.load(&options).err().unwrap();
    assert!(error.is_end(), "{error}");
}
