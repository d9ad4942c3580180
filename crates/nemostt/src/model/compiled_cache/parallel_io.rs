// SPDX-License-Identifier: MIT OR Apache-2.0

//! Large files read and hashed on a few threads: one core hashes 5 GB/s, and copies as much out of the system's memory.

use std::{
    fs::File,
    io,
    path::Path,
    sync::{Mutex, PoisonError},
    thread::{self, Builder, available_parallelism},
};

use blake3::{Hash, Hasher};

use nemostt_compiler::regular_file;

/// Bytes that one thread reads or hashes in one go.
pub(super) const CHUNK_BYTES: usize = 8 << 20;
/// More threads do not read faster.
const MAX_THREADS: usize = 8;
/// Bytes that are hashed while they are in the processor's cache.
const BLOCK: usize = 128 << 10;

/// Hash of a file, whatever it is called.
pub(super) fn hash_of_file(path: &Path) -> io::Result<Hash> {
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

/// As [`hash_of_file`], of a file in memory.
pub(super) fn hash_of_bytes(bytes: &[u8]) -> Hash {
    // Nothing can fail.
    let hashes = parallel_map(bytes.chunks(CHUNK_BYTES).collect(), |piece| Ok(blake3::hash(piece)));
    root_hash(bytes.len() as u64, &hashes.unwrap_or_default())
}

fn root_hash(length: u64, pieces: &[Hash]) -> Hash {
    let mut hasher = Hasher::new();
    hasher.update(&length.to_le_bytes());
    for piece in pieces {
        hasher.update(piece.as_bytes());
    }
    hasher.finalize()
}

/// Reads `room` from `offset` on, and says whether its hash is another one than `expected`.
pub(super) fn read_checked(file: &File, room: &mut [u8], offset: u64, expected: Hash) -> io::Result<()> {
    let mut hasher = Hasher::new();
    let mut at = offset;
    for block in room.chunks_mut(BLOCK) {
        read_at(file, block, at)?;
        hasher.update(block);
        at += block.len() as u64;
    }
    match hasher.finalize() == expected {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "its hash is wrong")),
    }
}

/// What `work` makes of each item, in their order. Threads share the work; this one does it all where there are no others.
///
/// # Errors
/// One of those that `work` gave.
pub(super) fn parallel_map<I: Send, T: Send>(
    items: Vec<I>,
    work: impl Fn(I) -> io::Result<T> + Sync,
) -> io::Result<Vec<T>> {
    let threads = available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let threads = threads.min(items.len()).max(1);
    let mut done: Vec<Option<io::Result<T>>> = items.iter().map(|_| None).collect();
    let todo = Mutex::new(items.into_iter().zip(&mut done));
    let take_turns = || {
        loop {
            let next = todo.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((item, slot)) = next else { return };
            *slot = Some(work(item));
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // A thread that cannot be made leaves its share to the others.
            let _ = Builder::new()
                .name("nemostt-read".into())
                .spawn_scoped(scope, take_turns);
        }
        take_turns();
    });
    drop(todo);
    done.into_iter().flatten().collect()
}

/// Fills `room` from `offset` on, wherever others read at the same time.
#[cfg(unix)]
pub(super) fn read_at(file: &File, room: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, room, offset)
}

/// Fills `room` from `offset` on, wherever others read at the same time.
#[cfg(windows)]
pub(super) fn read_at(file: &File, mut room: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !room.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, room, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                room = &mut room[read..];
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
    fn a_file_has_the_hash_of_its_bytes() {
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
    fn results_come_in_order_and_errors_come() {
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
