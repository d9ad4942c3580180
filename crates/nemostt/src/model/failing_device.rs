// SPDX-License-Identifier: MIT OR Apache-2.0

//! For tests: a device that fails. The CPU provider pretends to be a GPU for a model's directory, with `device=auto`.
//!
//! It has memory of its own: what is bound as an input is copied when it is bound, as ONNX Runtime does it for devices.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use super::Options;
use crate::{
    device::Device,
    error::{Error, Result},
    sync::lock,
};

/// See the [module](self).
#[derive(Debug)]
pub struct FailingDevice {
    /// Runs and bindings that still succeed.
    left: AtomicUsize,
    /// Whether graphs can be loaded onto it.
    refuses_graphs: AtomicBool,
    /// Whether nemostt panics after the next run.
    panics: AtomicBool,
}

static DEVICES: Mutex<Vec<(PathBuf, Arc<FailingDevice>)>> = Mutex::new(Vec::new());

thread_local! {
    /// The one that the model which is being loaded on this thread runs on.
    static CURRENT: RefCell<Option<Arc<FailingDevice>>> = const { RefCell::new(None) };
}

impl FailingDevice {
    /// The device of the model in `directory`, which works at first.
    pub fn of_model(directory: &Path) -> Arc<Self> {
        let device = Arc::new(Self {
            left: AtomicUsize::new(usize::MAX),
            refuses_graphs: AtomicBool::new(false),
            panics: AtomicBool::new(false),
        });
        lock(&DEVICES).push((directory.into(), device.clone()));
        device
    }

    /// Lets it fail after `runs` more runs or bindings, for good.
    pub fn fail_after(&self, runs: usize) {
        self.left.store(runs, Ordering::SeqCst);
    }

    /// Lets it reject all graphs that are loaded onto it from now on.
    pub fn refuse_graphs(&self) {
        self.refuses_graphs.store(true, Ordering::SeqCst);
    }

    /// Lets nemostt panic once, after the next run.
    pub fn panic_after_run(&self) {
        self.panics.store(true, Ordering::SeqCst);
    }

    /// What it claims to be.
    pub(super) const DEVICE: Device = Device::Cuda(0);

    /// `options` for the device that computes in fact.
    pub(super) fn real_options(options: &Options) -> Options {
        Options {
            device: Device::Cpu,
            ..options.clone()
        }
    }

    /// The device of the model that is being loaded on this thread.
    pub(super) fn current() -> Option<Arc<Self>> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Loads the model at `path` with `load`.
    pub(super) fn during<T>(path: &Path, load: impl FnOnce() -> T) -> T {
        let devices = lock(&DEVICES);
        let known = devices.iter().rev().find(|(directory, _)| directory == path);
        let device = known.map(|(_, device)| device.clone());
        drop(devices);
        let outer = CURRENT.replace(device);
        let result = load();
        CURRENT.set(outer);
        result
    }

    /// Called after a run.
    pub(super) fn check_panic(&self) {
        if self.panics.swap(false, Ordering::SeqCst) {
            // Without the message of a panic.
            std::panic::resume_unwind(Box::new("injected"));
        }
    }

    /// A graph is loaded onto it.
    ///
    /// # Errors
    /// If it rejects it.
    pub(super) fn load(&self) -> std::result::Result<(), &'static str> {
        match self.refuses_graphs.load(Ordering::SeqCst) {
            true => Err("CUDNN failure 4000: CUDNN_STATUS_INTERNAL_ERROR"),
            false => Ok(()),
        }
    }

    /// A run on it, or a binding.
    ///
    /// # Errors
    /// If it fails.
    pub(super) fn run(&self, doing: &str) -> Result<()> {
        let count = |left: usize| match left {
            usize::MAX => Some(left),
            left => left.checked_sub(1),
        };
        let result = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count);
        result.map(drop).map_err(|_| Error::Runtime {
            doing: doing.into(),
            reason: "CUDA failure 719: unspecified launch failure".into(),
        })
    }
}
