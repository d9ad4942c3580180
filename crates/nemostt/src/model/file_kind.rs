// SPDX-License-Identifier: MIT OR Apache-2.0

//! Recognizes files that are not ONNX graphs, and says what to do about them.

use nemostt_compiler::GraphError;

/// Where a tar archive has its magic.
const TAR_MAGIC: std::ops::Range<usize> = 257..262;

const EXPORT: &str = "export it to ONNX with NeMo and cache_support (tools/export_nemo.py does), and use its output";

/// The error for `bytes` that are a kind of file that users commonly download or export instead of a graph.
pub(super) fn not_a_graph(bytes: &[u8]) -> Option<GraphError> {
    let (what, cure) = kind_and_cure(bytes)?;
    Some(GraphError::NotAGraph { what, cure })
}

fn kind_and_cure(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    let text = bytes.trim_ascii_start();
    let is_html = [&b"<!doctype"[..], b"<html", b"<?xml"]
        .iter()
        .any(|tag| text.len() >= tag.len() && text[..tag.len()].eq_ignore_ascii_case(tag));
    match () {
        () if starts(b"version https://git-lfs") => {
            Some(("a Git LFS pointer, not the file itself", "fetch it with `git lfs pull`"))
        }
        () if is_html => Some(("a web page", "the download went wrong, fetch the file itself")),
        () if bytes.get(TAR_MAGIC) == Some(b"ustar") || starts(&[0x1f, 0x8b]) => {
            Some(("an archive, as NeMo's .nemo checkpoints are", EXPORT))
        }
        () if starts(b"PK\x03\x04") => Some(("a zip archive, as PyTorch's checkpoints are", EXPORT)),
        () if is_safetensors(bytes) => Some(("a safetensors file, weights without a graph", EXPORT)),
        () => None,
    }
}

/// A safetensors file starts with the length of a JSON header, then the header.
fn is_safetensors(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk() else {
        return false;
    };
    let length = u64::from_le_bytes(*length);
    rest.first() == Some(&b'{') && (2..=100_000_000).contains(&length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: &[u8]) -> String {
        not_a_graph(bytes).map_or("nothing".into(), |fault| fault.to_string())
    }

    #[test]
    fn other_file_kinds_are_recognized() {
        let mut tar = vec![0; 512];
        tar[TAR_MAGIC].copy_from_slice(b"ustar");
        for (bytes, word) in [
            (
                &b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"[..],
                "LFS",
            ),
            (b"\n <!DOCTYPE html><html>", "web page"),
            (b"<HTML>", "web page"),
            (&tar, ".nemo"),
            (&[0x1f, 0x8b, 8, 0], ".nemo"),
            (b"PK\x03\x04rest", "PyTorch"),
            (b"\x20\x00\x00\x00\x00\x00\x00\x00{\"__metadata__\"", "safetensors"),
            (b"\x08\x08\x12\x07pytorch", "nothing"),
            (b"", "nothing"),
        ] {
            assert!(message(bytes).contains(word), "{word}: {}", message(bytes));
        }
    }
}
