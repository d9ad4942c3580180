// SPDX-License-Identifier: MIT OR Apache-2.0

//! Weights as bytes, so that a file can keep them: in the order and form in which this processor reads them.

use std::{io, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Ending, Form, Pages, Weights};

/// What is known of the weights of one product besides their values. [`Weights::from_bytes`] makes weights of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    form: Form,
    depth: usize,
    columns: usize,
    ending: Ending,
}

/// How panels lie on this processor: weights that were kept under another name are not for it.
pub(crate) fn layout() -> String {
    let form = Form::best(0);
    format!("{form:?} in panels of {}", form.columns())
}

/// Sizes of what was kept of a product.
struct Size {
    /// Floats of the bias, and of the scales if there are any.
    columns: usize,
    has_scales: bool,
    panels: usize,
}

impl Size {
    fn floats(&self) -> usize {
        self.columns * (1 + usize::from(self.has_scales))
    }
}

impl Kept {
    /// `None`, if there is no such product here.
    fn size(&self) -> Option<Size> {
        let is_sound = Weights::fits(self.depth) && self.columns > 0 && self.form.is_there(self.depth);
        let size = Size {
            columns: self.columns.checked_next_multiple_of(self.form.columns())?,
            has_scales: self.form.has_scales(),
            panels: self.form.bytes(self.depth, self.columns)?,
        };
        is_sound.then_some(size)
    }
}

impl Weights {
    /// What they are like.
    pub(crate) fn kept(&self) -> Kept {
        Kept {
            form: self.form,
            depth: self.depth,
            columns: self.columns,
            ending: self.ending,
        }
    }

    /// Their bias, and behind it the scales of their columns, if they have any.
    pub(crate) fn column_bytes(&self) -> [&[u8]; 2] {
        [&self.bias, &self.scales].map(|floats| bytemuck::cast_slice(floats))
    }

    /// Their values.
    pub(crate) fn panel_bytes(&self) -> &[u8] {
        &self.panels.bytes()[self.range.clone()]
    }

    /// Weights of products that were kept: [`column_bytes`](Self::column_bytes) of all of them, one behind the other, and as many
    /// bytes of panels as `panels` says, which `fill` writes to where they stay.
    ///
    /// # Errors
    /// What `fill` says; the system's, where there is no memory for them; `InvalidData` where sizes do not fit each other.
    pub(crate) fn from_bytes(
        all: &[Kept],
        columns: &[u8],
        panels: usize,
        fill: impl FnOnce(&mut [u8]) -> io::Result<()>,
    ) -> io::Result<Vec<Self>> {
        let wrong = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the sizes of products do not fit their weights",
            )
        };
        let sizes = all.iter().map(Kept::size);
        let sizes: Vec<Size> = sizes.collect::<Option<_>>().ok_or_else(wrong)?;
        let sum = |of: fn(&Size) -> usize| sizes.iter().map(of).try_fold(0_usize, usize::checked_add);
        let floats = sum(Size::floats).and_then(|floats| floats.checked_mul(size_of::<f32>()));
        if sum(|size| size.panels) != Some(panels) || floats != Some(columns.len()) {
            return Err(wrong());
        }
        let mut pages = Pages::zeros(panels)?;
        fill(pages.bytes_mut())?;
        let panels = Arc::new(pages.freeze()?);

        let mut floats = columns.as_chunks().0.iter().map(|value| f32::from_ne_bytes(*value));
        let mut start = 0;
        let weights = all.iter().zip(sizes).map(|(kept, size)| {
            let range = start..start + size.panels;
            start = range.end;
            Self {
                panels: panels.clone(),
                range,
                form: kept.form,
                bias: floats.by_ref().take(size.columns).collect(),
                scales: floats.by_ref().take(size.floats() - size.columns).collect(),
                depth: kept.depth,
                columns: kept.columns,
                ending: kept.ending,
            }
        });
        Ok(weights.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{
        gemm::{Kind, tests::forms},
        noise,
    };

    fn weights() -> Vec<Weights> {
        let kind = |(depth, columns, ending)| Kind {
            depth,
            columns,
            bias: Some(noise(columns, 7)),
            ending,
        };
        let kinds = [(8, 5, Ending::Plain), (12, 70, Ending::Silu), (4, 1, Ending::Plain)];
        let kinds = kinds.into_iter().zip(forms().chain([Form::Floats, Form::Floats]));
        let kinds = kinds.map(|(numbers, form)| (form, kind(numbers)));
        Weights::pack_as(kinds.collect(), |index, row, column, room| {
            room.copy_from_slice(&noise(room.len(), (index * 999 + row * 99 + column) as u32));
        })
        .unwrap()
    }

    /// What products are like, their biases, their panels.
    type Bytes = (Vec<Kept>, Vec<u8>, Vec<u8>);

    fn bytes(all: &[Weights]) -> Bytes {
        (
            all.iter().map(Weights::kept).collect(),
            all.iter().flat_map(Weights::column_bytes).flatten().copied().collect(),
            all.iter().flat_map(Weights::panel_bytes).copied().collect(),
        )
    }

    fn read((kept, biases, panels): &Bytes) -> io::Result<Vec<Weights>> {
        Weights::from_bytes(kept, biases, panels.len(), |room| {
            room.copy_from_slice(panels);
            Ok(())
        })
    }

    #[test]
    fn what_was_kept_multiplies_as_before() {
        let before = weights();
        let text = serde_json::to_string(&bytes(&before).0).unwrap();
        let (_, biases, panels) = bytes(&before);
        let after = read(&(serde_json::from_str(&text).unwrap(), biases, panels)).unwrap();
        assert_eq!(after.len(), before.len());
        for (before, after) in before.iter().zip(&after) {
            let input = noise(3 * before.depth(), 1);
            let mut outputs = [(); 2].map(|()| vec![0.0; 3 * before.columns()]);
            before.multiply_alone(&input, &mut outputs[0]);
            after.multiply_alone(&input, &mut outputs[1]);
            assert_eq!(outputs[0], outputs[1]);
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let sound = bytes(&weights());
        let refused = |change: fn(&mut Bytes)| {
            let mut bytes = sound.clone();
            change(&mut bytes);
            assert_eq!(read(&bytes).unwrap_err().kind(), io::ErrorKind::InvalidData);
        };
        refused(|(_, biases, _)| biases.truncate(4));
        refused(|(_, _, panels)| panels.extend([0; 4]));
        refused(|(kept, ..)| kept[0].depth = 6);
        refused(|(kept, ..)| kept[0].columns = 0);
        refused(|(kept, ..)| kept[1].columns = usize::MAX - 1);
        refused(|(kept, ..)| kept.truncate(2));
    }
}
