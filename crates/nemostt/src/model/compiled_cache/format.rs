// SPDX-License-Identifier: MIT OR Apache-2.0

//! The file of one prepared encoder.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | [`MAGIC`] with the version of this format |
//! | 8 | length of the head, little endian |
//! | 32 | BLAKE3 of the head |
//! | … | the head, JSON: see [`EntryHeader`] |
//! | … | the parts, one behind the other: graph, its weights, bias and scales of our products' columns, their panels |
//!
//! The head holds a hash of each few megabytes of the parts, so threads can read and check them where they stay.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, Write},
    path::Path,
    sync::Arc,
};

use blake3::Hash;
use serde::{Deserialize, Serialize};

use super::{
    parallel_io::{self, CHUNK_BYTES, parallel_map, read_checked},
    trust,
};
use crate::model::compile::CompiledEncoder;
use nemostt_compiler::regular_file;
use nemostt_compiler::{Encoded, Graph, Precision, StateSpec, fill_shared};
use nemostt_kernels::gemm::{PackedWeights, PackedWeightsHeader};

const MAGIC: [u8; 8] = *b"nemostt\x01";
/// Of all that comes before the head.
const PREFIX: usize = MAGIC.len() + size_of::<u64>() + blake3::OUT_LEN;

#[derive(Serialize, Deserialize)]
struct EntryHeader {
    /// The entry's name: a file that was given another one is no entry.
    key: String,
    states: Vec<StateSpec>,
    width: Option<usize>,
    precision: Precision,
    /// See [`Encoded::weights`].
    weights: usize,
    has_our_operations: bool,
    products: Vec<PackedWeightsHeader>,
    graph: Section,
    graph_weights: Section,
    columns: Section,
    panels: Section,
}

/// Length and hash of each piece of a part.
#[derive(Serialize, Deserialize)]
struct Section(Vec<(usize, String)>);

impl Section {
    /// What `slices` are together.
    fn of(slices: &[&[u8]]) -> io::Result<Self> {
        let pieces: Vec<&[u8]> = slices.iter().flat_map(|slice| slice.chunks(CHUNK_BYTES)).collect();
        let pieces = parallel_map(pieces, |piece| {
            Ok((piece.len(), blake3::hash(piece).to_hex().to_string()))
        })?;
        Ok(Self(pieces))
    }

    fn length(&self) -> io::Result<usize> {
        let mut lengths = self.0.iter().map(|(length, _)| *length);
        let sum = lengths.try_fold(0_usize, usize::checked_add);
        sum.ok_or_else(|| damaged("a part is too long"))
    }

    /// Reads it into `room`, which is as long, from `offset` on.
    fn read(&self, file: &File, offset: u64, mut room: &mut [u8]) -> io::Result<()> {
        let mut pieces = Vec::with_capacity(self.0.len());
        let mut start = offset;
        for (length, hash) in &self.0 {
            let (piece, rest) = room
                .split_at_mut_checked(*length)
                .ok_or_else(|| damaged("a part is too long"))?;
            room = rest;
            let hash = Hash::from_hex(hash).map_err(|_| damaged("a hash is none"))?;
            pieces.push((piece, start, hash));
            start += *length as u64;
        }
        parallel_map(pieces, |(piece, start, hash)| read_checked(file, piece, start, hash)).map(drop)
    }

    fn read_vec(&self, file: &File, offset: u64) -> io::Result<Vec<u8>> {
        let mut bytes = zeroed(self.length()?)?;
        self.read(file, offset, &mut bytes)?;
        Ok(bytes)
    }
}

/// As many zeros, or an error.
fn zeroed(length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length)?;
    bytes.resize(length, 0);
    Ok(bytes)
}

/// An entry that is about to be written.
pub(super) struct EntryWriter<'a> {
    head: Vec<u8>,
    parts: Vec<Cow<'a, [u8]>>,
}

impl<'a> EntryWriter<'a> {
    pub(super) fn new(key: &str, prepared: &'a CompiledEncoder) -> io::Result<Self> {
        let encoded = &prepared.encoded;
        let compact = encoded.compact()?;
        let products = || encoded.products.iter();
        let columns: Vec<&[u8]> = products().flat_map(|product| product.column_bytes()).collect();
        let columns = columns.concat();
        let panels: Vec<&[u8]> = products().map(|product| product.panel_bytes()).collect();
        let head = EntryHeader {
            key: key.into(),
            states: prepared.states.clone(),
            width: prepared.width,
            precision: prepared.precision,
            weights: encoded.weights,
            has_our_operations: encoded.has_our_operations,
            products: encoded.products.iter().map(|product| product.header()).collect(),
            graph: Section::of(&[&compact.model])?,
            graph_weights: Section::of(&compact.weights)?,
            columns: Section::of(&[&columns])?,
            panels: Section::of(&panels)?,
        };
        let weights = compact.weights.into_iter().map(Cow::Borrowed);
        let parts = [Cow::Owned(compact.model)].into_iter().chain(weights);
        let parts = parts.chain([Cow::Owned(columns)]);
        Ok(Self {
            head: serde_json::to_vec(&head)?,
            parts: parts.chain(panels.into_iter().map(Cow::Borrowed)).collect(),
        })
    }

    /// Bytes of its file.
    pub(super) fn length(&self) -> u64 {
        let parts: usize = self.parts.iter().map(|part| part.len()).sum();
        (PREFIX + self.head.len() + parts) as u64
    }

    pub(super) fn write(&self, file: &mut impl Write) -> io::Result<()> {
        file.write_all(&MAGIC)?;
        file.write_all(&(self.head.len() as u64).to_le_bytes())?;
        file.write_all(blake3::hash(&self.head).as_bytes())?;
        file.write_all(&self.head)?;
        self.parts.iter().try_for_each(|part| file.write_all(part))
    }
}

/// Reads the entry called `key`, for windows of `width` mel frames; gives its file, too.
///
/// # Errors
/// `InvalidData` or `UnexpectedEof` where it is damaged or others may have written to it, `InvalidInput` where it is not a
/// regular file; the system's.
pub(super) fn read(path: &Path, key: &str, width: usize) -> io::Result<(CompiledEncoder, File)> {
    let (file, length) = regular_file::open(path, regular_file::WEIGHTS)?;
    trust::check(&file.metadata()?)?;
    let mut prefix = [0; PREFIX];
    parallel_io::read_at(&file, &mut prefix, 0)?;
    let (magic, rest) = prefix.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(damaged("it is of another format"));
    }
    let (head_length, hash) = rest.split_at(size_of::<u64>());
    let head_length = head_length.try_into().map_or(u64::MAX, u64::from_le_bytes);
    let start = (PREFIX as u64)
        .checked_add(head_length)
        .filter(|&start| start <= length);
    let start = start.ok_or_else(|| damaged("it is too short"))?;
    let hash = Hash::from_slice(hash).map_err(|_| damaged("a hash is none"))?;
    let mut head = zeroed(head_length as usize)?;
    read_checked(&file, &mut head, PREFIX as u64, hash)?;
    let head: EntryHeader = serde_json::from_slice(&head)?;
    if head.key != key {
        return Err(damaged("it is of another graph"));
    }
    if head.width != Some(width) || !are_valid(&head.states) {
        return Err(damaged("what a stream remembers has sizes that make no sense"));
    }
    let mut places = [0; 4];
    let mut end = start;
    for (place, part) in places
        .iter_mut()
        .zip([&head.graph, &head.graph_weights, &head.columns, &head.panels])
    {
        *place = end;
        let after = end.checked_add(part.length()? as u64).filter(|&after| after <= length);
        end = after.ok_or_else(|| damaged("it is too short"))?;
    }
    if end != length {
        return Err(damaged("it is too long"));
    }
    let model = head.graph.read_vec(&file, places[0])?;
    let weights = fill_shared(head.graph_weights.length()?, |room| {
        head.graph_weights.read(&file, places[1], room)
    })?;
    let rings = Graph::check_kept(&model, &weights).map_err(|fault| damaged(&fault.to_string()))?;
    // A ring is bound as input and output at once, which only an attention's cache may be.
    if head
        .states
        .iter()
        .any(|state| state.is_ring != rings.contains(&state.input))
    {
        return Err(damaged("its graph has other rings than it says"));
    }
    let columns = head.columns.read_vec(&file, places[2])?;
    let products = PackedWeights::from_bytes(&head.products, &columns, head.panels.length()?, |room| {
        head.panels.read(&file, places[3], room)
    })?;
    let products = products.into_iter().map(Arc::new).collect();
    let prepared = CompiledEncoder {
        encoded: Encoded::from_compact(model, weights, products, head.weights, head.has_our_operations),
        states: head.states,
        width: head.width,
        precision: head.precision,
    };
    Ok((prepared, file))
}

/// Most values of one state: a hundred times the largest cache of the largest model of this family.
const MAX_STATE_ELEMENTS: usize = 1 << 28;

/// Whether tensors can be made of `states`, and rows be added where that is asked for.
fn are_valid(states: &[StateSpec]) -> bool {
    let values = |state: &StateSpec| {
        let sizes = state.dims.iter().copied();
        sizes
            .filter(|&size| size > 0 || state.new_rows.is_none())
            .try_fold(1, usize::checked_mul)
    };
    let all = states
        .iter()
        .map(values)
        .try_fold(0_usize, |all, values| all.checked_add(values?));
    all.is_some_and(|all| all <= MAX_STATE_ELEMENTS)
        && states.iter().all(|state| match (state.new_rows, &state.dims[..]) {
            (None, _) => !state.is_ring,
            (Some(new), [.., rows, width]) => (1..=*rows).contains(&new) && *width > 0 && !state.dims.contains(&0),
            (Some(_), _) => false,
        })
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
