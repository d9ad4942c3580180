// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reproducible random numbers: SplitMix64 (Steele, Lea and Flood, 2014).

pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`; 0 if `limit` is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % (limit as u64).max(1)) as usize
    }

    pub fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }

    pub fn pick_mut<'a, T>(&mut self, from: &'a mut [T]) -> Option<&'a mut T> {
        let index = self.below(from.len());
        from.get_mut(index)
    }

    /// A replacement for `instead_of`: a related number or an edge case.
    pub fn odd(&mut self, instead_of: i64) -> i64 {
        const FAR: [i64; 12] = [0, 1, -1, 2, 3, 4, 8, i64::MAX, i64::MIN, 1 << 31, 1 << 40, 1_000_003];
        match self.below(8) {
            0 => instead_of.wrapping_add(1),
            1 => instead_of.wrapping_sub(1),
            2 => instead_of.wrapping_mul(2),
            3 => instead_of / 2,
            4 => instead_of.wrapping_neg(),
            5 => (self.next() >> self.below(64)) as i64,
            _ => FAR[self.below(FAR.len())],
        }
    }
}
