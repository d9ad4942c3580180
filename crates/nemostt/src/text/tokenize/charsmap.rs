// SPDX-License-Identifier: MIT OR Apache-2.0

//! SentencePiece's `precompiled_charsmap`: which strings normalization replaces, and by what.
//!
//! Layout (`normalizer.cc`, `Normalizer::DecodePrecompiledCharsMap`): the size of a trie in bytes as a little-endian
//! `u32`, the trie as a double array of `u32` units (Darts-clone, `darts.h`), and replacements that end with NUL, to whose
//! offsets the trie maps.

/// Most bytes of a replacement that is looked at. The longest one of NFKC has 33 (U+FDFA).
const LONGEST: usize = 256;

/// A rule for each string that is replaced.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::text) struct Charsmap {
    units: Vec<u32>,
    replacements: Vec<u8>,
}

impl Charsmap {
    /// `None` if it is empty or damaged: then nothing is replaced, as with SentencePiece's rule `identity`.
    pub(in crate::text) fn parse(bytes: &[u8]) -> Option<Self> {
        let (size, rest) = bytes.split_first_chunk()?;
        let size = u32::from_le_bytes(*size) as usize;
        let (trie, replacements) = rest.split_at_checked(size)?;
        let (units, rest) = trie.as_chunks();
        (!units.is_empty() && rest.is_empty()).then(|| Self {
            units: units.iter().map(|unit| u32::from_le_bytes(*unit)).collect(),
            replacements: replacements.into(),
        })
    }

    /// The longest rule that applies at the start of `text`: the bytes that it replaces, and the replacement.
    pub(super) fn longest_match(&self, text: &str) -> Option<(usize, &str)> {
        let mut found = None;
        let mut position = offset(*self.units.first()?);
        for (index, byte) in text.bytes().enumerate() {
            position ^= usize::from(byte);
            let Some(&unit) = self.units.get(position) else {
                break;
            };
            // The label of a unit; the highest bit is set in those that hold values.
            if unit & (1 << 31 | 0xff) != u32::from(byte) {
                break;
            }
            position ^= offset(unit);
            let has_leaf = unit >> 8 & 1 == 1;
            if has_leaf && let Some(&leaf) = self.units.get(position) {
                found = Some((index + 1, (leaf & 0x7fff_ffff) as usize));
            }
        }
        let (length, start) = found?;
        let replacement = self.replacements.get(start..)?;
        let end = replacement.iter().take(LONGEST + 1).position(|&byte| byte == 0)?;
        let replacement = std::str::from_utf8(&replacement[..end]).ok()?;
        // Rules are for whole characters.
        text.is_char_boundary(length).then_some((length, replacement))
    }
}

/// Distance from a unit to its children.
fn offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & 1 << 9) >> 6)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_maps_are_no_maps() {
        for bytes in [&b""[..], &[0; 4], &[8, 0, 0, 0, 1, 2], &[3, 0, 0, 0, 1, 2, 3]] {
            assert_eq!(Charsmap::parse(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn replacements_without_end_are_no_replacements() {
        // "a" leads from the root at 0 to 97, whose leaf at 96 has the value 0.
        let mut units = [0_u32; 98];
        units[97] = 1 << 10 | 1 << 8 | u32::from(b'a');
        units[96] = 1 << 31;
        let map = |length: usize| Charsmap {
            units: units.to_vec(),
            replacements: [vec![b'x'; length], vec![0]].concat(),
        };
        assert_eq!(map(2).longest_match("ab"), Some((1, "xx")));
        assert_eq!(
            map(LONGEST).longest_match("a").map(|(_, text)| text.len()),
            Some(LONGEST)
        );
        assert_eq!(map(LONGEST + 1).longest_match("a"), None);
    }

    #[test]
    fn units_beyond_the_end_match_nothing() {
        let mut bytes = vec![4, 0, 0, 0];
        bytes.extend(u32::MAX.to_le_bytes());
        let map = Charsmap::parse(&bytes).unwrap();
        assert_eq!(map.longest_match("abc"), None);
    }
}
