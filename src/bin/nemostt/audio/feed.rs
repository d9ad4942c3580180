// SPDX-License-Identifier: MIT OR Apache-2.0

//! Standard input, read by a thread of its own, so that Ctrl-C can end it while it waits.

use std::{
    io::{self, Read},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use crate::interrupt;

/// Bytes per block.
const BLOCK_BYTES: usize = 16 * 1024;
/// Blocks that may be queued.
const MAX_QUEUED_BLOCKS: usize = 4;
/// How often to check for Ctrl-C, and how long to wait after it for what the program before the pipe still writes.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Blocks still read after Ctrl-C, from a program that does not end with it.
const MAX_BLOCKS_AFTER_INTERRUPT: usize = 8;

/// Reads standard input on a thread of its own.
pub struct StdinReader {
    blocks: mpsc::Receiver<io::Result<Vec<u8>>>,
    block: Vec<u8>,
    /// Bytes of `block` that were read.
    position: usize,
    /// Blocks that may still be read after Ctrl-C.
    remaining: usize,
}

impl StdinReader {
    pub fn standard_input() -> Self {
        let (sender, blocks) = mpsc::sync_channel(MAX_QUEUED_BLOCKS);
        // Ends with the input or the process: a blocked read cannot be interrupted.
        thread::spawn(move || {
            let mut stdin = io::stdin().lock();
            loop {
                let mut block = vec![0; BLOCK_BYTES];
                let read = match stdin.read(&mut block) {
                    Ok(0) => return,
                    Ok(read) => read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return drop(sender.send(Err(error))),
                };
                block.truncate(read);
                if sender.send(Ok(block)).is_err() {
                    return;
                }
            }
        });
        Self {
            blocks,
            block: Vec::new(),
            position: 0,
            remaining: MAX_BLOCKS_AFTER_INTERRUPT,
        }
    }

    /// The next block; `None` at the end.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if interrupt::is_requested() {
                self.remaining = match self.remaining.checked_sub(1) {
                    Some(remaining) => remaining,
                    None => return Ok(None),
                };
            }
            match self.blocks.recv_timeout(POLL_INTERVAL) {
                Ok(block) => return block.map(Some),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if interrupt::is_requested() => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl Read for StdinReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.block.len() {
            self.block = self.next()?.unwrap_or_default();
            self.position = 0;
        }
        let read = self.block[self.position..].as_ref().read(buffer)?;
        self.position += read;
        Ok(read)
    }
}
