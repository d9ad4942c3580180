// SPDX-License-Identifier: MIT OR Apache-2.0

//! Weights as bytes, so that a file can keep them: in the order and form in which this processor reads them.

use std::{io, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Epilogue, PackedWeights, PageBuffer, WeightFormat};

/// What is known of the weights of one product besides their values. [`PackedWeights::from_bytes`] makes weights of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PackedWeightsHeader {
    format: WeightFormat,
    k: usize,
    n: usize,
    epilogue: Epilogue,
}

/// How panels lie on this processor: weights that were kept under another name are not for it.
pub fn packing_id() -> String {
    let format = WeightFormat::best(0);
    format!("{format:?} in panels of {}", format.panel_width())
}

/// Sizes of what was kept of a product.
struct PackedSize {
    /// Floats of the bias, and of the scales if there are any.
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
    /// `None`, if there is no such product here.
    fn size(&self) -> Option<PackedSize> {
        let is_sound = PackedWeights::supports_k(self.k) && self.n > 0 && self.format.is_supported(self.k);
        let size = PackedSize {
            columns: self.n.checked_next_multiple_of(self.format.panel_width())?,
            has_scales: self.format.has_scales(),
            panels: self.format.packed_size(self.k, self.n)?,
        };
        is_sound.then_some(size)
    }
}

impl PackedWeights {
    /// What they are like.
    pub fn header(&self) -> PackedWeightsHeader {
        PackedWeightsHeader {
            format: self.format,
            k: self.k,
            n: self.n,
            epilogue: self.epilogue,
        }
    }

    /// Their bias, and behind it the scales of their columns, if they have any.
    pub fn column_bytes(&self) -> [&[u8]; 2] {
        [&self.bias, &self.scales].map(|floats| bytemuck::cast_slice(floats))
    }

    /// Their values.
    pub fn panel_bytes(&self) -> &[u8] {
        &self.panels.bytes()[self.range.clone()]
    }

    /// Weights of products that were kept: [`column_bytes`](Self::column_bytes) of all of them, one behind the other, and as many
    /// bytes of panels as `panels` says, which `fill` writes to where they stay.
    ///
    /// # Errors
    /// What `fill` says; the system's, where there is no memory for them; `InvalidData` where sizes do not fit each other.
    pub fn from_bytes(
        all: &[PackedWeightsHeader],
        columns: &[u8],
        panels: usize,
        fill: impl FnOnce(&mut [u8]) -> io::Result<()>,
    ) -> io::Result<Vec<Self>> {
        let invalid = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the sizes of products do not fit their weights",
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
        let spec = |(depth, columns, epilogue)| GemmSpec {
            k: depth,
            n: columns,
            bias: Some(noise(columns, 7)),
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

    /// What products are like, their biases, their panels.
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
            before.multiply_single_threaded(&lhs, &mut outputs[0]);
            after.multiply_single_threaded(&lhs, &mut outputs[1]);
            assert_eq!(outputs[0], outputs[1]);
        }
    }

    #[test]
    fn mismatched_sizes_are_rejected() {
        let sound = bytes(&weights());
        let refused = |change: fn(&mut Bytes)| {
            let mut bytes = sound.clone();
            change(&mut bytes);
            assert_eq!(read(&bytes).unwrap_err().kind(), io::ErrorKind::InvalidData);
        };
        refused(|(_, biases, _)| biases.truncate(4));
        refused(|(_, _, panels)| panels.extend([0; 4]));
        refused(|(header, ..)| header[0].k = 6);
        refused(|(header, ..)| header[0].n = 0);
        refused(|(header, ..)| header[1].n = usize::MAX - 1);
        refused(|(header, ..)| header.truncate(2));
    }
}
