// SPDX-License-Identifier: MIT OR Apache-2.0

//! Choices that users make by name: in properties, options and files.

/// A choice among values with names.
pub trait Named: Copy + PartialEq + 'static {
    /// All values with their names.
    const NAMES: &'static [(Self, &'static str)];

    /// The value of this name.
    fn from_name(name: &str) -> Option<Self> {
        let found = Self::NAMES.iter().find(|(_, known)| *known == name);
        found.map(|&(value, _)| value)
    }

    /// Its name.
    fn name(self) -> &'static str {
        let found = Self::NAMES.iter().find(|(value, _)| *value == self);
        found.map_or("", |&(_, name)| name)
    }

    /// The names of all values.
    fn names() -> impl Iterator<Item = &'static str> {
        Self::NAMES.iter().map(|&(_, name)| name)
    }
}
