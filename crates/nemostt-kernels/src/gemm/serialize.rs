// SPDX-License-Identifier: MIT OR Apache-2.0

//! Packed weights as bytes, for storage in a file: in the order and format of this processor.

use std::{io, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Epilogue, PackedWeights, PageBuffer, WeightFormat};

/// Describes packed weights without their values. See [`PackedWeights::from_bytes`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PackedWeightsHeader {
    format: WeightFormat,
    k: usize,
    n: usize,
    epilogue: Epilogue,
}

/// Identifies the weight format of this processor: weights serialized under another id must not be loaded.
pub fn packing_id() -> String {
    let format = WeightFormat::best(0);
    format!("{format:?} in panels of {}", format.panel_width())
}

/// Sizes of serialized weights.
struct PackedSize {
    /// Floats of the bias, padded; also those of the scales, if there are any.
    columns: usize,
    has_scales: bool,
    panels: usize,
}

impl PackedSize {
    fn floats(&self) -> usize {
        self.columns * (1 + usize::from(self.has_scales))
    }
}

impl PackedWeightsHeader {
    /// `None` if this processor does not support such weights.
    fn size(&self) -> Option<PackedSize> {
        let is_valid = PackedWeights::supports_k(self.k) && self.n > 0 && self.format.is_supported(self.k);
        let size = PackedSize {
            columns: self.n.checked_next_multiple_of(self.format.panel_width())?,
            has_scales: self.format.has_scales(),
            panels: self.format.packed_size(self.k, self.n)?,
        };
        is_valid.then_some(size)
    }
}

impl PackedWeights {
    /// Format, shape and epilogue, without values.
    pub fn header(&self) -> PackedWeightsHeader {
        PackedWeightsHeader {
            format: self.format,
            k: self.k,
            n: self.n,
            epilogue: self.epilogue,
        }
    }

    /// The bias, then the scales of the columns, if there are any.
    pub fn column_bytes(&self) -> [&[u8]; 2] {
        [&self.bias, &self.scales].map(|floats| bytemuck::cast_slice(floats))
    }

    /// The packed panels.
    pub fn panel_bytes(&self) -> &[u8] {
        &self.panels.bytes()[self.range.clone()]
    }

    /// Deserializes weights. `columns` contains the [`column_bytes`](Self::column_bytes) of all of them, concatenated;
    /// `fill` writes their `panels` bytes of panels to the final buffer.
    ///
    /// # Errors
    /// Those of `fill`; the system's if memory cannot be allocated; `InvalidData` if the sizes do not match.
    pub fn from_bytes(
        all: &[PackedWeightsHeader],
        columns: &[u8],
        panels: usize,
        fill: impl FnOnce(&mut [u8]) -> io::Result<()>,
    ) -> io::Result<Vec<Self>> {
        let invalid = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the sizes of packed weights do not match their headers",
            )
        };
        let sizes = all.iter().map(PackedWeightsHeader::size);
        let sizes: Vec<PackedSize> = sizes.collect::<Option<_>>().ok_or_else(invalid)?;
        let sum = |of: fn(&PackedSize) -> usize| sizes.iter().map(of).try_fold(0_usize, usize::checked_add);
        let floats = sum(PackedSize::floats).and_then(|floats| floats.checked_mul(size_of::<f32>()));
        if sum(|size| size.panels) != Some(panels) || floats != Some(columns.len()) {
            return Err(invalid());
        }
        let mut pages = PageBuffer::zeroed(panels)?;
        fill(pages.bytes_mut())?;
        let panels = Arc::new(pages.freeze()?);

        let mut floats = columns.as_chunks().0.iter().map(|value| f32::from_ne_bytes(*value));
        let mut start = 0;
        let weights = all.iter().zip(sizes).map(|(header, size)| {
            let range = start..start + size.panels;
            start = range.end;
            Self {
                panels: panels.clone(),
                range,
                format: header.format,
                bias: floats.by_ref().take(size.columns).collect(),
                scales: floats.by_ref().take(size.floats() - size.columns).collect(),
                k: header.k,
                n: header.n,
                epilogue: header.epilogue,
            }
        });
        Ok(weights.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        gemm::{GemmSpec, tests::weight_formats},
        noise,
    };

    fn weights() -> Vec<PackedWeights> {
        let spec = |(k, n, epilogue)| GemmSpec {
            k,
            n,
            bias: Some(noise(n, 7)),
            epilogue,
        };
        let specs = [
            (8, 5, Epilogue::Identity),
            (12, 70, Epilogue::Silu),
            (4, 1, Epilogue::Identity),
        ];
        let specs = specs
            .into_iter()
            .zip(weight_formats().chain([WeightFormat::F32, WeightFormat::F32]));
        let specs = specs.map(|(numbers, format)| (format, spec(numbers)));
        PackedWeights::pack_as(specs.collect(), |index, row, column, dst| {
            dst.copy_from_slice(&noise(dst.len(), (index * 999 + row * 99 + column) as u32));
        })
        .unwrap()
    }

    /// Headers, biases and scales, panels.
    type Bytes = (Vec<PackedWeightsHeader>, Vec<u8>, Vec<u8>);

    fn bytes(all: &[PackedWeights]) -> Bytes {
        (
            all.iter().map(PackedWeights::header).collect(),
            all.iter()
                .flat_map(PackedWeights::column_bytes)
                .flatten()
                .copied()
                .collect(),
            all.iter().flat_map(PackedWeights::panel_bytes).copied().collect(),
        )
    }

    fn read((header, biases, panels): &Bytes) -> io::Result<Vec<PackedWeights>> {
        PackedWeights::from_bytes(header, biases, panels.len(), |dst| {
            dst.copy_from_slice(panels);
            Ok(())
        })
    }

    #[test]
    fn deserialized_weights_multiply_identically() {
        let before = weights();
        let text = serde_json::to_string(&bytes(&before).0).unwrap();
        let (_, biases, panels) = bytes(&before);
        let after = read(&(serde_json::from_str(&text).unwrap(), biases, panels)).unwrap();
        assert_eq!(after.len(), before.len());
        for (before, after) in before.iter().zip(&after) {
            let lhs = noise(3 * before.k(), 1);
            let mut outputs = [(); 2].map(|()| vec![0.0; 3 * before.n()]);
            before.multiply(&lhs, None, &mut outputs[0]);
            after.multiply(&lhs, None, &mut outputs[1]);
            assert_eq!(outputs[0], outputs[1]);
        }
    }

    #[test]
    fn mismatched_sizes_are_rejected() {
        let valid = bytes(&weights());
        let assert_rejected = |change: fn(&mut Bytes)| {
            let mut bytes = valid.clone();
            change(&mut bytes);
            assert_eq!(read(&bytes).unwrap_err().kind(), io::ErrorKind::InvalidData);
        };
        assert_rejected(|(_, biases, _)| biases.truncate(4));
        assert_rejected(|(_, _, panels)| panels.extend([0; 4]));
        assert_rejected(|(header, ..)| header[0].k = 6);
        assert_rejected(|(header, ..)| header[0].n = 0);
        assert_rejected(|(header, ..)| header[1].n = usize::MAX - 1);
        assert_rejected(|(header, ..)| header.truncate(2));
    }
}
