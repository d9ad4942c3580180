// SPDX-License-Identifier: MIT OR Apache-2.0

//! Going on on the CPU when a device that was chosen automatically fails: it was removed, its driver was reset, or its memory
//! is exhausted. That may be while the model is loaded, or later.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, TryLockError},
};

#[cfg(feature = "triton")]
use super::RemoteFallback;
use super::{
    Cancellation, Model, Options, PrecisionChoice,
    runtime::{LogLevel, log},
};
use crate::{
    device::Device,
    error::{Error, Result},
    sync::lock,
};
use nemostt_compiler::GraphError;

/// Where a model was loaded from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Path(PathBuf),
    #[cfg(feature = "embedded-model")]
    Embedded,
}

impl Source {
    /// What metrics call a model from here.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            #[cfg(feature = "embedded-model")]
            Self::Embedded => "embedded".into(),
        }
    }
}

/// Loads a model again, on the CPU, when the first of its streams needs it.
pub(crate) struct CpuFallback {
    source: Source,
    options: Options,
    /// What failed: a device, or servers.
    failed: String,
    loaded: Mutex<Option<Loaded>>,
}

/// The model on the CPU.
#[derive(Clone)]
pub(crate) struct Loaded {
    pub(crate) model: Arc<Model>,
    /// What happened, for users.
    pub(crate) notice: Arc<str>,
}

impl CpuFallback {
    /// For the model that `options` loaded from `source` onto `device`. `None` if the user chose the device, or it is the CPU.
    pub(super) fn new(source: Source, options: &Options, device: Device) -> Option<Self> {
        (options.device == Device::Auto && device != Device::Cpu).then(|| Self {
            source,
            options: Options {
                device: Device::Cpu,
                // The device did not use it: see `Target::resolve`.
                precision: match options.precision {
                    PrecisionChoice::Int8 => PrecisionChoice::Auto,
                    precision => precision,
                },
                dump_graphs: None,
                // Streams outlive the request that loaded the model.
                cancellation: Cancellation::default(),
                ..options.clone()
            },
            failed: device_name(device),
            loaded: Mutex::default(),
        })
    }

    /// For the model that `options` loaded from `source` with its encoder on a server. `None` if streams wait for servers.
    #[cfg(feature = "triton")]
    pub(super) fn of_remote(source: Source, options: &Options) -> Option<Self> {
        let remote = options.remote.as_ref()?;
        (remote.fallback == RemoteFallback::Cpu).then(|| Self {
            source,
            options: Options {
                remote: None,
                device: Device::Cpu,
                dump_graphs: None,
                cancellation: Cancellation::default(),
                ..options.clone()
            },
            failed: format!("the encoder at {}", remote.address),
            loaded: Mutex::default(),
        })
    }

    /// The model on the CPU, if a stream has needed it.
    pub(crate) fn loaded(&self) -> Option<Loaded> {
        lock(&self.loaded).clone()
    }

    /// As [`loaded`](Self::loaded), without waiting for a load.
    pub(crate) fn loaded_now(&self) -> Option<Loaded> {
        match self.loaded.try_lock() {
            Ok(loaded) => loaded.clone(),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().clone(),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The model on the CPU, because the device failed with `error`. The first call loads it; others wait for that.
    ///
    /// # Errors
    /// If it cannot be loaded. The next call tries again.
    pub(crate) fn load(&self, error: &Error) -> Result<Loaded> {
        let mut loaded = lock(&self.loaded);
        if let Some(loaded) = &*loaded {
            return Ok(loaded.clone());
        }
        let model = self.load_on_cpu(self.options.clone());
        let model = model.map_err(|reason| self.both_failed(error, reason))?;
        let notice = format!(
            "{} failed ({error}): all streams of this model go on on the CPU",
            self.failed
        );
        log(LogLevel::Warning, &notice);
        Ok(loaded
            .insert(Loaded {
                model: Arc::new(model),
                notice: notice.into(),
            })
            .clone())
    }

    /// The model on the CPU, because the device failed with `error` while `options` loaded it. Logs that.
    ///
    /// # Errors
    /// If it cannot be loaded there either: the CPU's error if that says what is wrong with the model.
    pub(super) fn load_instead(&self, error: &Error, options: &Options) -> Result<Model> {
        let model = self.load_on_cpu(Options {
            device: Device::Cpu,
            ..options.clone()
        });
        let model = model.map_err(|reason| match reason {
            of_model @ Error::BadModel { .. } => of_model,
            reason => self.both_failed(error, reason),
        })?;
        log(
            LogLevel::Warning,
            &format!("{} failed to load the model ({error}): it runs on the CPU", self.failed),
        );
        Ok(model)
    }

    fn load_on_cpu(&self, options: Options) -> Result<Model> {
        match &self.source {
            Source::Path(path) => Model::load(path, &options),
            #[cfg(feature = "embedded-model")]
            Source::Embedded => Model::embedded(&options),
        }
    }

    /// The CPU failed for `reason` after the device had failed with `error`.
    fn both_failed(&self, error: &Error, reason: Error) -> Error {
        match reason {
            end if end.is_end() => end,
            reason => Error::Runtime {
                doing: format!("load the model on the CPU after {} failed ({error})", self.failed),
                reason: reason.to_string(),
            },
        }
    }
}

fn device_name(device: Device) -> String {
    format!("device \"{device}\"")
}

/// Whether `error`, of loading a model onto a device, may be the device's fault. ONNX Runtime rejects a graph, too, if the
/// device fails while it prepares it.
pub(super) fn may_be_of_device(error: &Error) -> bool {
    match error {
        Error::Device { .. } | Error::Shape { .. } | Error::NotANumber { .. } => true,
        Error::BadModel { fault, .. } => matches!(fault, GraphError::Refused(_)),
        error => is_device_failure(error),
    }
}

/// Whether `error` may be the device's fault, and not that of the model or the caller.
pub(crate) fn is_device_failure(error: &Error) -> bool {
    matches!(error, Error::Runtime { .. } | Error::OutOfMemory { .. })
}
