// SPDX-License-Identifier: MIT OR Apache-2.0

//! Weights that lie in files of their own, as those of every model over 2 GB do (a protobuf message holds no more).
//!
//! ONNX, "External data": a tensor with `data_location` EXTERNAL names `location` (relative to the model), and may give
//! `offset` and `length` in bytes.

use std::collections::HashMap;

use bytes::Bytes;

use super::{Fault, Graph, TensorProto, onnx};

/// The files that were read, by name.
pub type DataFiles = HashMap<String, Bytes>;

impl Graph {
    /// Brings external weights into the graph. `read` gives the bytes of a file beside the model.
    ///
    /// # Errors
    /// [`Fault::ExternalData`]: no such file, too short, or a name that leads out of the model's directory.
    pub fn bring_in(&mut self, read: &mut dyn FnMut(&str) -> Result<Bytes, String>) -> Result<(), Fault> {
        let mut files = DataFiles::new();
        let inside = self.graph.node.iter_mut().flat_map(|node| &mut node.attribute);
        let constants = inside.filter_map(|attribute| attribute.t.as_mut());
        for tensor in self.graph.initializer.iter_mut().chain(constants) {
            if is_external(tensor) {
                fetch(tensor, &mut files, read)?;
            }
        }
        Ok(())
    }
}

fn is_external(tensor: &TensorProto) -> bool {
    use onnx::tensor_proto::DataLocation;
    tensor.data_location == Some(DataLocation::External as i32)
}

fn fetch(
    tensor: &mut TensorProto,
    files: &mut DataFiles,
    read: &mut dyn FnMut(&str) -> Result<Bytes, String>,
) -> Result<(), Fault> {
    let entry = |key: &str| {
        let found = tensor.external_data.iter().find(|entry| entry.key() == key);
        found.map(|entry| entry.value().to_owned())
    };
    let location = entry("location").unwrap_or_default();
    let wrong = |reason: String| Fault::ExternalData {
        location: location.clone(),
        reason,
    };
    let number = |key: &str| match entry(key) {
        None => Ok(None),
        Some(text) => match text.trim().parse::<usize>() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(wrong(format!("its {key} \"{text}\" is no number"))),
        },
    };
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
    let bytes = match files.get(&location) {
        Some(bytes) => bytes.clone(),
        None => {
            let bytes = read(&location).map_err(&wrong)?;
            files.insert(location.clone(), bytes.clone());
            bytes
        }
    };
    let end = length.map_or(Some(bytes.len()), |length| offset.checked_add(length));
    let Some(end) = end.filter(|&end| offset <= end && end <= bytes.len()) else {
        return Err(wrong(format!(
            "it has {} bytes, and tensor {} wants {} from byte {offset} on",
            bytes.len(),
            tensor.name(),
            length.map_or("all".into(), |length| length.to_string())
        )));
    };
    tensor.raw_data = Some(bytes.slice(offset..end));
    tensor.data_location = None;
    tensor.external_data.clear();
    Ok(())
}
