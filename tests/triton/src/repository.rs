// SPDX-License-Identifier: MIT OR Apache-2.0

//! Model repositories that `nemostt triton-repository` writes, and their counterparts for the Python backend.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::variable;

/// What the Python backend runs.
const BACKEND: &str = include_str!("../backend/model.py");

/// A model repository in a temporary directory.
pub struct Repository {
    directory: TempDir,
}

impl Repository {
    /// An empty one.
    #[expect(clippy::new_without_default)] // it makes a directory
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        Self { directory }
    }

    /// Adds a model as `nemostt triton-repository` writes it, with these further arguments, and returns its name. Only a
    /// server with the ONNX Runtime backend can serve it.
    pub fn add(&self, model: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(variable("NEMOSTT"));
        command
            .args(["triton-repository", model])
            .arg(self.path())
            .args(arguments);
        let output = command.stderr(Stdio::piped()).output().expect("the command runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        let name = path.file_name().expect("it prints the path of the model");
        name.to_string_lossy().into_owned()
    }

    /// As [`add`](Self::add), for the Python backend: the same graph, configuration and sequences. The graph runs on
    /// processors.
    pub fn add_python_model(&self, model: &str, arguments: &[&str]) -> String {
        let name = self.add(model, &[arguments, &["--cpu"]].concat());
        self.change_config(&name, "platform: \"onnxruntime_onnx\"", "backend: \"python\"");
        fs::write(self.model(&name).join("1/model.py"), BACKEND).expect("files can be added");
        name
    }

    /// Replaces `old` by `new` in the configuration of a model, for servers that start after that.
    pub fn change_config(&self, model: &str, old: &str, new: &str) {
        let path = self.model(model).join("config.pbtxt");
        let config = fs::read_to_string(&path).expect("there is a config.pbtxt");
        assert!(config.contains(old), "{old}");
        fs::write(&path, config.replace(old, new)).expect("it can be replaced");
    }

    /// Lets each execution of a [Python model](Self::add_python_model) take longer, from now on.
    pub fn set_delay(&self, model: &str, delay: Duration) {
        let path = self.model(model).join("1/delay");
        let unfinished = path.with_extension("new");
        fs::write(&unfinished, delay.as_secs_f64().to_string()).expect("files can be added");
        fs::rename(unfinished, path).expect("files can be renamed");
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The directory of a model.
    pub fn model(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}
