//! What some rows of a dense span see, found once and asked for each tile of keys.

use std::ops::Range;

use super::dense::DenseSpan;

/// Rows that a [`Sight`] describes, at most.
pub(super) const SIGHT: usize = 64;

/// What some rows see of a span's keys.
pub(super) struct Sight {
    /// For each row its first key and one past its last; rows that are not there repeat the last one.
    pub(super) first: [u32; SIGHT],
    pub(super) last: [u32; SIGHT],
    /// Seeded keys, which all rows see.
    pub(super) seeded: usize,
    /// The keys between which all that is seen lies, besides the seeded ones.
    hull: Range<usize>,
    /// The keys that every row sees, besides the seeded ones.
    common: Range<usize>,
}

impl Sight {
    /// Of rows of a span's queries, counted within the span.
    pub(super) fn new(span: &DenseSpan, rows: Range<usize>) -> Sight {
        let seen = &span.visible[rows];
        let at = |i: usize| seen.get(i).or(seen.last());
        let first = std::array::from_fn(|i| at(i).map_or(0, |r| r.start as u32));
        let last = std::array::from_fn(|i| at(i).map_or(0, |r| r.end as u32));
        let bound = |f: fn(&Range<usize>) -> usize| seen.iter().map(f);
        let seeing = || seen.iter().filter(|r| !r.is_empty());
        let hull = seeing().map(|r| r.start).min().unwrap_or(0)..seeing().map(|r| r.end).max().unwrap_or(0);
        let common = bound(|r| r.start).max().unwrap_or(0)..bound(|r| r.end).min().unwrap_or(0);
        Sight { first, last, seeded: span.seeded, hull, common }
    }

    /// The part of `keys` outside which no row sees any.
    pub(super) fn part(&self, keys: &Range<usize>) -> Range<usize> {
        let seeded = keys.start..keys.end.min(self.seeded);
        let seen = keys.start.max(self.hull.start)..keys.end.min(self.hull.end);
        match (seeded.is_empty(), seen.is_empty()) {
            (true, true) => keys.start..keys.start,
            (true, false) => seen,
            (false, true) => seeded,
            (false, false) => seeded.start.min(seen.start)..seeded.end.max(seen.end),
        }
    }

    /// Whether every row sees all of `keys`.
    pub(super) fn is_full(&self, keys: &Range<usize>) -> bool {
        keys.end <= self.seeded || self.common.start <= keys.start.max(self.seeded) && keys.end <= self.common.end
    }

    /// Whether row `row` sees `key`.
    #[inline(always)]
    pub(super) fn sees(&self, row: usize, key: u32) -> bool {
        (key as usize) < self.seeded || (self.first[row] <= key && key < self.last[row])
    }
}
