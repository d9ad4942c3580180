// SPDX-License-Identifier: MIT OR Apache-2.0

//! Standard input, read by a thread of its own, so that Ctrl-C can end it while it waits.

use std::{
    io::{self, Read},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use crate::interrupt;

/// Bytes read at a time.
const BLOCK_BYTES: usize = 16 * 1024;
/// Pieces that may wait.
const MAX_QUEUED_BLOCKS: usize = 4;
/// How long to wait before looking for Ctrl-C. What the program before us still writes then comes within this time.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Pieces still taken after Ctrl-C, from a program that does not end with it.
const MAX_BLOCKS_AFTER_INTERRUPT: usize = 8;

/// Bytes that a thread reads.
pub struct StdinReader {
    pieces: mpsc::Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    /// Bytes of `piece` that were taken.
    taken: usize,
    /// Pieces that may still be taken.
    rest: usize,
}

impl StdinReader {
    pub fn standard_input() -> Self {
        let (sender, pieces) = mpsc::sync_channel(MAX_QUEUED_BLOCKS);
        // Ends with the input, or with the program: nothing can end a read that waits.
        thread::spawn(move || {
            let mut stdin = io::stdin().lock();
            loop {
                let mut piece = vec![0; BLOCK_BYTES];
                let read = match stdin.read(&mut piece) {
                    Ok(0) => return,
                    Ok(read) => read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return drop(sender.send(Err(error))),
                };
                piece.truncate(read);
                if sender.send(Ok(piece)).is_err() {
                    return;
                }
            }
        });
        Self {
            pieces,
            piece: Vec::new(),
            taken: 0,
            rest: MAX_BLOCKS_AFTER_INTERRUPT,
        }
    }

    /// The next piece; none at the end.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if interrupt::came() {
                self.rest = match self.rest.checked_sub(1) {
                    Some(rest) => rest,
                    None => return Ok(None),
                };
            }
            match self.pieces.recv_timeout(POLL_INTERVAL) {
                Ok(piece) => return piece.map(Some),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if interrupt::came() => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl Read for StdinReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.piece.len() {
            self.piece = self.next()?.unwrap_or_default();
            self.taken = 0;
        }
        let read = self.piece[self.taken..].as_ref().read(buffer)?;
        self.taken += read;
        Ok(read)
    }
}
