// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reads and hashes large files on several threads: one core hashes 5 GB/s, and copies as much from the page cache.

use std::{
    fs::File,
    io,
    path::Path,
    sync::{Mutex, PoisonError},
    thread::{self, Builder, available_parallelism},
};

use blake3::{Hash, Hasher};

use nemostt_compiler::regular_file;

/// Bytes that one thread reads or hashes at a time.
pub(super) const CHUNK_BYTES: usize = 8 << 20;
/// More threads do not read faster.
const MAX_THREADS: usize = 8;
/// Bytes that are hashed while they are in the CPU's cache.
const BLOCK: usize = 128 << 10;

/// Hash of a file's contents.
pub(in crate::model) fn hash_of_file(path: &Path) -> io::Result<Hash> {
    let (file, length) = regular_file::open(path, regular_file::WEIGHTS)?;
    let starts: Vec<u64> = (0..length).step_by(CHUNK_BYTES).collect();
    let hashes = parallel_map(starts, |start| {
        let mut hasher = Hasher::new();
        let mut block = vec![0; BLOCK];
        let end = length.min(start + CHUNK_BYTES as u64);
        for at in (start..end).step_by(BLOCK) {
            let block = &mut block[..(end - at).min(BLOCK as u64) as usize];
            read_at(&file, block, at)?;
            hasher.update(block);
        }
        Ok(hasher.finalize())
    })?;
    Ok(root_hash(length, &hashes))
}

/// As [`hash_of_file`], for contents in memory.
pub(in crate::model) fn hash_of_bytes(bytes: &[u8]) -> Hash {
    // Hashing cannot fail.
    let hashes = parallel_map(bytes.chunks(CHUNK_BYTES).collect(), |chunk| Ok(blake3::hash(chunk)));
    root_hash(bytes.len() as u64, &hashes.unwrap_or_default())
}

fn root_hash(length: u64, chunks: &[Hash]) -> Hash {
    let mut hasher = Hasher::new();
    hasher.update(&length.to_le_bytes());
    for chunk in chunks {
        hasher.update(chunk.as_bytes());
    }
    hasher.finalize()
}

/// Fills `dst` from `offset` on. An error if the hash of the data is not `expected`.
pub(super) fn read_checked(file: &File, dst: &mut [u8], offset: u64, expected: Hash) -> io::Result<()> {
    let mut hasher = Hasher::new();
    let mut at = offset;
    for block in dst.chunks_mut(BLOCK) {
        read_at(file, block, at)?;
        hasher.update(block);
        at += block.len() as u64;
    }
    match hasher.finalize() == expected {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "its hash does not match")),
    }
}

/// Maps `items` with `work`, in order, on several threads; on this one if no others can be started.
///
/// # Errors
/// One of the errors of `work`.
pub(super) fn parallel_map<I: Send, T: Send>(
    items: Vec<I>,
    work: impl Fn(I) -> io::Result<T> + Sync,
) -> io::Result<Vec<T>> {
    let threads = available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let threads = threads.min(items.len()).max(1);
    let mut results: Vec<Option<io::Result<T>>> = items.iter().map(|_| None).collect();
    let queue = Mutex::new(items.into_iter().zip(&mut results));
    let run_worker = || {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((item, slot)) = next else { return };
            *slot = Some(work(item));
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // If a thread cannot be started, the others do its share.
            let _ = Builder::new()
                .name("nemostt-read".into())
                .spawn_scoped(scope, run_worker);
        }
        run_worker();
    });
    drop(queue);
    results.into_iter().flatten().collect()
}

/// Fills `dst` from `offset` on, without a shared file position.
#[cfg(unix)]
pub(super) fn read_at(file: &File, dst: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, dst, offset)
}

/// Fills `dst` from `offset` on, without a shared file position.
#[cfg(windows)]
pub(super) fn read_at(file: &File, mut dst: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !dst.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, dst, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                dst = &mut dst[read..];
                offset += read as u64;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_and_bytes_have_the_same_hash() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut hashes = Vec::new();
        for length in [0, 1, BLOCK, CHUNK_BYTES - 1, CHUNK_BYTES, 2 * CHUNK_BYTES + BLOCK + 7] {
            let bytes: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            std::fs::write(&path, &bytes).unwrap();
            let hash = hash_of_file(&path).unwrap();
            assert_eq!(hash, hash_of_bytes(&bytes), "{length}");
            assert!(!hashes.contains(&hash));
            hashes.push(hash);
            if let Some(last) = bytes.last() {
                let mut other = bytes.clone();
                other[length - 1] = !last;
                assert_ne!(hash, hash_of_bytes(&other));
            }
        }
    }

    #[test]
    fn parallel_map_keeps_order_and_returns_errors() {
        let doubled = parallel_map((0..1000).collect(), |i| Ok(2 * i)).unwrap();
        assert_eq!(doubled, (0..1000).map(|i| 2 * i).collect::<Vec<_>>());
        let odd = |i: usize| match i {
            501 => Err(io::Error::other("odd")),
            _ => Ok(()),
        };
        assert_eq!(parallel_map((0..1000).collect(), odd).unwrap_err().to_string(), "odd");
        assert!(parallel_map(Vec::new(), |_: ()| Ok(())).unwrap().is_empty());
    }
}
