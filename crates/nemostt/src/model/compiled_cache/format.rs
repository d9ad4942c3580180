// SPDX-License-Identifier: MIT OR Apache-2.0

//! The file format of a compiled encoder.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | [`MAGIC`] with the version of the format |
//! | 8 | length of the header, little-endian |
//! | 32 | BLAKE3 hash of the header |
//! | … | the header, JSON: see [`EntryHeader`] |
//! | … | the sections, concatenated: graph, its weights, bias and scales of packed weights, their panels |
//!
//! The header contains a hash of every few megabytes of the sections, so that threads can read them into their final
//! buffers and check them there.

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
use nemostt_compiler::{Encoded, Graph, Precision, StateSpec, fill_shared, pipeline::PassReport};
use nemostt_kernels::gemm::{PackedWeights, PackedWeightsHeader};

const MAGIC: [u8; 8] = *b"nemostt\x01";
/// Bytes before the header.
const PREFIX: usize = MAGIC.len() + size_of::<u64>() + blake3::OUT_LEN;

#[derive(Serialize, Deserialize)]
struct EntryHeader {
    /// The entry's name; a renamed file is rejected.
    key: String,
    states: Vec<StateSpec>,
    width: Option<usize>,
    precision: Precision,
    passes: Vec<PassReport>,
    /// See [`Encoded::weights`].
    weights: usize,
    has_custom_ops: bool,
    packed_weights: Vec<PackedWeightsHeader>,
    graph: Section,
    graph_weights: Section,
    columns: Section,
    panels: Section,
}

/// Length and hash of each chunk of a section.
#[derive(Serialize, Deserialize)]
struct Section(Vec<(usize, String)>);

impl Section {
    /// The concatenation of `slices`.
    fn of(slices: &[&[u8]]) -> io::Result<Self> {
        let chunks: Vec<&[u8]> = slices.iter().flat_map(|slice| slice.chunks(CHUNK_BYTES)).collect();
        let chunks = parallel_map(chunks, |chunk| {
            Ok((chunk.len(), blake3::hash(chunk).to_hex().to_string()))
        })?;
        Ok(Self(chunks))
    }

    fn length(&self) -> io::Result<usize> {
        let mut lengths = self.0.iter().map(|(length, _)| *length);
        let sum = lengths.try_fold(0_usize, usize::checked_add);
        sum.ok_or_else(|| corrupt("a section is too long"))
    }

    /// Reads the section at `offset` into `dst`, which has its length.
    fn read(&self, file: &File, offset: u64, mut dst: &mut [u8]) -> io::Result<()> {
        let mut chunks = Vec::with_capacity(self.0.len());
        let mut start = offset;
        for (length, hash) in &self.0 {
            let (chunk, rest) = dst
                .split_at_mut_checked(*length)
                .ok_or_else(|| corrupt("a section is too long"))?;
            dst = rest;
            let hash = Hash::from_hex(hash).map_err(|_| corrupt("a hash is invalid"))?;
            chunks.push((chunk, start, hash));
            start += *length as u64;
        }
        parallel_map(chunks, |(chunk, start, hash)| read_checked(file, chunk, start, hash)).map(drop)
    }

    fn read_vec(&self, file: &File, offset: u64) -> io::Result<Vec<u8>> {
        let mut bytes = zeroed(self.length()?)?;
        self.read(file, offset, &mut bytes)?;
        Ok(bytes)
    }
}

/// Zeroed memory, or an error if it cannot be allocated.
fn zeroed(length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length)?;
    bytes.resize(length, 0);
    Ok(bytes)
}

/// An entry to be written.
pub(super) struct EntryWriter<'a> {
    header: Vec<u8>,
    parts: Vec<Cow<'a, [u8]>>,
}

impl<'a> EntryWriter<'a> {
    pub(super) fn new(key: &str, compiled: &'a CompiledEncoder) -> io::Result<Self> {
        let encoded = &compiled.encoded;
        let compact = encoded.compact()?;
        let packed_weights = || encoded.packed_weights.iter();
        let columns: Vec<&[u8]> = packed_weights().flat_map(|weights| weights.column_bytes()).collect();
        let columns = columns.concat();
        let panels: Vec<&[u8]> = packed_weights().map(|weights| weights.panel_bytes()).collect();
        let header = EntryHeader {
            key: key.into(),
            states: compiled.states.clone(),
            width: compiled.width,
            precision: compiled.precision,
            passes: compiled.passes.clone(),
            weights: encoded.weights,
            has_custom_ops: encoded.has_custom_ops,
            packed_weights: encoded.packed_weights.iter().map(|weights| weights.header()).collect(),
            graph: Section::of(&[&compact.model])?,
            graph_weights: Section::of(&compact.weights)?,
            columns: Section::of(&[&columns])?,
            panels: Section::of(&panels)?,
        };
        let weights = compact.weights.into_iter().map(Cow::Borrowed);
        let parts = [Cow::Owned(compact.model)].into_iter().chain(weights);
        let parts = parts.chain([Cow::Owned(columns)]);
        Ok(Self {
            header: serde_json::to_vec(&header)?,
            parts: parts.chain(panels.into_iter().map(Cow::Borrowed)).collect(),
        })
    }

    /// Size of the file.
    pub(super) fn length(&self) -> u64 {
        let parts: usize = self.parts.iter().map(|part| part.len()).sum();
        (PREFIX + self.header.len() + parts) as u64
    }

    pub(super) fn write(&self, file: &mut impl Write) -> io::Result<()> {
        file.write_all(&MAGIC)?;
        file.write_all(&(self.header.len() as u64).to_le_bytes())?;
        file.write_all(blake3::hash(&self.header).as_bytes())?;
        file.write_all(&self.header)?;
        self.parts.iter().try_for_each(|part| file.write_all(part))
    }
}

/// Reads the entry called `key`, for windows of `width` mel frames. Returns its file, too.
///
/// # Errors
/// `InvalidData` or `UnexpectedEof` if it is corrupt or other users could have written it, `InvalidInput` if it is not
/// a regular file; the system's.
pub(super) fn read(path: &Path, key: &str, width: usize) -> io::Result<(CompiledEncoder, File)> {
    let (file, length) = regular_file::open(path, regular_file::WEIGHTS)?;
    trust::check(&file.metadata()?)?;
    let mut prefix = [0; PREFIX];
    parallel_io::read_at(&file, &mut prefix, 0)?;
    let (magic, rest) = prefix.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(corrupt("it has another format"));
    }
    let (header_length, hash) = rest.split_at(size_of::<u64>());
    let header_length = header_length.try_into().map_or(u64::MAX, u64::from_le_bytes);
    let start = (PREFIX as u64)
        .checked_add(header_length)
        .filter(|&start| start <= length);
    let start = start.ok_or_else(|| corrupt("it is too short"))?;
    let hash = Hash::from_slice(hash).map_err(|_| corrupt("a hash is invalid"))?;
    let mut header = zeroed(header_length as usize)?;
    read_checked(&file, &mut header, PREFIX as u64, hash)?;
    let header: EntryHeader = serde_json::from_slice(&header)?;
    if header.key != key {
        return Err(corrupt("it is the entry of another graph"));
    }
    if header.width != Some(width) || !are_valid(&header.states) {
        return Err(corrupt("the sizes of its states are invalid"));
    }
    let mut offsets = [0; 4];
    let mut end = start;
    for (offset, part) in
        offsets
            .iter_mut()
            .zip([&header.graph, &header.graph_weights, &header.columns, &header.panels])
    {
        *offset = end;
        let after = end.checked_add(part.length()? as u64).filter(|&after| after <= length);
        end = after.ok_or_else(|| corrupt("it is too short"))?;
    }
    if end != length {
        return Err(corrupt("it is too long"));
    }
    let model = header.graph.read_vec(&file, offsets[0])?;
    let weights = fill_shared(header.graph_weights.length()?, |dst| {
        header.graph_weights.read(&file, offsets[1], dst)
    })?;
    let rings = Graph::check_kept(&model, &weights).map_err(|fault| corrupt(&fault.to_string()))?;
    // A ring is bound as input and output at the same time, which only an attention cache supports.
    if header
        .states
        .iter()
        .any(|state| state.is_ring != rings.contains(&state.input))
    {
        return Err(corrupt("its graph has other rings than its states"));
    }
    let columns = header.columns.read_vec(&file, offsets[2])?;
    let packed_weights = PackedWeights::from_bytes(&header.packed_weights, &columns, header.panels.length()?, |dst| {
        header.panels.read(&file, offsets[3], dst)
    })?;
    let packed_weights = packed_weights.into_iter().map(Arc::new).collect();
    let compiled = CompiledEncoder {
        encoded: Encoded::from_compact(model, weights, packed_weights, header.weights, header.has_custom_ops),
        states: header.states,
        width: header.width,
        precision: header.precision,
        passes: header.passes,
    };
    Ok((compiled, file))
}

/// Maximum elements of all states: a hundred times the largest cache of the largest model of this family.
const MAX_STATE_ELEMENTS: usize = 1 << 28;

/// Whether tensors of `states` can be allocated, and the number of new rows is valid.
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

fn corrupt(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
