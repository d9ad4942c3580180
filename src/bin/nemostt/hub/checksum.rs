// SPDX-License-Identifier: MIT OR Apache-2.0

//! Checksums of files.

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The expected checksum of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checksum {
    /// Of large files, which the hub stores in Git LFS, and of files in the catalog.
    Sha256(String),
    /// Of small files: the git object id. It protects against accidents only, because SHA-1 is broken.
    GitBlob(String),
}

impl Checksum {
    pub fn as_str(&self) -> &str {
        let (Self::Sha256(hex) | Self::GitBlob(hex)) = self;
        hex
    }

    /// Starts the checksum of a file of `size` bytes.
    pub fn counter(&self, size: u64) -> Counter {
        match self {
            Self::Sha256(_) => Counter::Sha256(Sha256::new()),
            Self::GitBlob(_) => Counter::GitBlob(Sha1::new().chain_update(format!("blob {size}\0"))),
        }
    }
}

/// Computes a checksum.
#[derive(Debug, Clone)]
pub enum Counter {
    Sha256(Sha256),
    GitBlob(Sha1),
}

impl Counter {
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(counter) => counter.update(bytes),
            Self::GitBlob(counter) => counter.update(bytes),
        }
    }

    pub fn finish(self) -> String {
        match self {
            Self::Sha256(counter) => hex(&counter.finalize()),
            Self::GitBlob(counter) => hex(&counter.finalize()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether `text` is `length` hexadecimal digits.
pub fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(checksum: &Checksum, bytes: &[u8]) -> String {
        let mut counter = checksum.counter(bytes.len() as u64);
        for byte in bytes.chunks(3) {
            counter.update(byte);
        }
        counter.finish()
    }

    #[test]
    fn both_match_the_command_line_tools() {
        // printf 'hello\n' | sha256sum; printf 'hello\n' | git hash-object --stdin
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(sum(&Checksum::Sha256(String::new()), b"hello\n"), sha256);
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        assert_eq!(sum(&Checksum::GitBlob(String::new()), b"hello\n"), git);
    }
}
