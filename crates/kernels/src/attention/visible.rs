//! What rows see of a cache: for each a list of disjoint ranges, which attention walks as the bounds of its loops.

use std::ops::Range;

/// For each row the entries that it sees, as disjoint ranges in ascending order that do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visible {
    ranges: Vec<Range<usize>>,
    /// Where each row's ranges end in the list.
    ends: Vec<usize>,
}

impl Visible {
    /// No rows yet, with room for `rows` of one range each.
    pub fn with_capacity(rows: usize) -> Visible {
        Visible { ranges: Vec::with_capacity(rows), ends: Vec::with_capacity(rows) }
    }

    /// Adds a row that sees the given ranges, in ascending order. Empty ones are left out, those that touch or
    /// overlap become one.
    ///
    /// # Panics
    /// If a range starts before the one before it, or ends before its start.
    pub fn push(&mut self, ranges: impl IntoIterator<Item = Range<usize>>) {
        let first = self.ranges.len();
        for range in ranges {
            assert!(range.start <= range.end, "visible entries {range:?}");
            if range.is_empty() {
                continue;
            }
            match self.ranges[first..].last_mut() {
                Some(last) if range.start <= last.end => {
                    assert!(last.start <= range.start, "visible entries {last:?}, then {range:?}");
                    last.end = last.end.max(range.end);
                }
                _ => self.ranges.push(range),
            }
        }
        self.ends.push(self.ranges.len());
    }

    /// The same where the first `gone` entries are no longer there, seen or not.
    pub fn without(mut self, gone: usize) -> Visible {
        for range in &mut self.ranges {
            *range = range.start.saturating_sub(gone)..range.end.saturating_sub(gone);
        }
        self
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// What row `row` sees.
    pub fn row(&self, row: usize) -> &[Range<usize>] {
        let first = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.ranges[first..self.ends[row]]
    }

    /// The entry after the last one that any row sees.
    pub fn end(&self) -> usize {
        self.ranges.iter().map(|r| r.end).max().unwrap_or(0)
    }
}

/// Rows of one range each.
impl FromIterator<Range<usize>> for Visible {
    fn from_iter<I: IntoIterator<Item = Range<usize>>>(ranges: I) -> Visible {
        let mut visible = Visible::default();
        ranges.into_iter().for_each(|range| visible.push([range]));
        visible
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_joined_where_they_touch() {
        let mut visible = Visible::with_capacity(3);
        visible.push([0..0, 2..4, 4..5, 5..5, 7..9, 8..12]);
        visible.push([3..3]);
        visible.push([1..2]);
        assert_eq!(visible.row(0), [2..5, 7..12]);
        assert_eq!(visible.row(1), []);
        assert_eq!(visible.row(2), [1..2]);
        assert_eq!((visible.len(), visible.end()), (3, 12));
        assert_eq!([0..1, 0..2].into_iter().collect::<Visible>().row(1), [0..2]);
    }

    #[test]
    #[should_panic(expected = "visible entries 3..5, then 2..4")]
    fn ranges_ascend() {
        Visible::default().push([3..5, 2..4]);
    }
}
