// SPDX-License-Identifier: MIT OR Apache-2.0

//! Writes an encoder's graph after each pass, for ONNX viewers. Large weights are not included.

use std::{fs, io, path::Path};

use super::runtime::{LogLevel, log};
use nemostt_compiler::Graph;

/// Numbers files in the order of the passes.
pub(super) struct GraphDump<'a> {
    directory: Option<&'a Path>,
    count: usize,
}

impl<'a> GraphDump<'a> {
    /// Writes to `directory`, or nothing if it is `None`.
    pub(super) fn new(directory: Option<&'a Path>) -> Self {
        Self { directory, count: 0 }
    }

    /// Writes `graph` after `pass`. A failure is logged and ends the dump.
    pub(super) fn write(&mut self, pass: &str, graph: &Graph) {
        let Some(directory) = self.directory else { return };
        self.count += 1;
        let path = directory.join(format!("{:02}-{pass}.onnx", self.count));
        let write = || -> io::Result<()> {
            fs::create_dir_all(directory)?;
            fs::write(&path, graph.clone().encode().model)
        };
        if let Err(error) = write() {
            log(
                LogLevel::Warning,
                &format!("graphs are not dumped: {}: {error}", path.display()),
            );
            self.directory = None;
        }
    }
}
