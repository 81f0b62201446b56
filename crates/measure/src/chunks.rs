//! How long rows of tokens are cut for the forward pass: as generation cuts a prompt.

use std::ops::Range;

use porism_generate::PROMPT_CHUNK;

/// The positions `start..end`, cut at the absolute multiples of [`PROMPT_CHUNK`].
pub(crate) fn chunks(positions: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let mut next = positions.start;
    std::iter::from_fn(move || {
        let start = next;
        next = ((start / PROMPT_CHUNK + 1) * PROMPT_CHUNK).min(positions.end);
        (start < positions.end).then_some(start..next)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_are_at_absolute_multiples() {
        let cut = |range: Range<usize>| chunks(range).collect::<Vec<_>>();
        let c = PROMPT_CHUNK;
        assert!(cut(5..5).is_empty());
        assert_eq!(cut(0..1), vec![Range { start: 0, end: 1 }]);
        assert_eq!(cut(0..2 * c), [0..c, c..2 * c]);
        assert_eq!(cut(c - 1..2 * c + 1), [c - 1..c, c..2 * c, 2 * c..2 * c + 1]);
    }
}
