//! All n-grams of a sequence at once, and how many two sequences share.
//!
//! A key holds the items from one place on side by side, the first in the highest bits. When the keys are sorted, the
//! n-grams of every order stand in runs of equal leading items, so one sort serves all orders.

/// The n-grams of a sequence.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grams {
    keys: Vec<u128>,
    /// Orders that the keys hold.
    order: u32,
    /// Bits of an item.
    bits: u32,
}

/// A run: the n-gram, how often it stands there, and where the next run begins.
type Run = (u128, u64, usize);

impl Grams {
    /// Takes a sequence of items, each below `2^bits - 1`, for orders up to `order`; `order * bits` is at most 128.
    pub(crate) fn fill(&mut self, items: impl DoubleEndedIterator<Item = u32>, order: u32, bits: u32) {
        debug_assert!(order * bits <= 128);
        (self.order, self.bits) = (order, bits);
        self.keys.clear();
        let top = bits * (order.max(1) - 1);
        let mut key = 0u128;
        for item in items.rev() {
            // Zero stands for "behind the end".
            key = (u128::from(item) + 1) << top | key >> bits;
            self.keys.push(key);
        }
        self.keys.sort_unstable();
    }

    /// How many n-grams of an order there are.
    pub(crate) fn count(&self, n: u32) -> u64 {
        (self.keys.len() as u64 + 1).saturating_sub(n.into())
    }

    /// The run of n-grams that begins at a place or behind it.
    fn run(&self, mut at: usize, n: u32) -> Option<Run> {
        let shift = self.bits * (self.order - n);
        let mask = (1u128 << self.bits) - 1;
        loop {
            let gram = self.keys.get(at)? >> shift;
            let begin = at;
            while self.keys.get(at).is_some_and(|key| key >> shift == gram) {
                at += 1;
            }
            if gram & mask != 0 {
                return Some((gram, (at - begin) as u64, at));
            }
        }
    }

    /// How many of this sequence's n-grams others have: each as often as in the one of them that has it most often.
    pub(crate) fn shared(&self, others: &[Grams], n: u32) -> u64 {
        let mut others: Vec<(&Grams, Option<Run>)> = others.iter().map(|o| (o, o.run(0, n))).collect();
        let mut own = self.run(0, n);
        let mut sum = 0;
        while let Some((gram, count, next)) = own {
            let mut most = 0;
            for (other, run) in &mut others {
                while let Some((theirs, _, behind)) = *run
                    && theirs < gram
                {
                    *run = other.run(behind, n);
                }
                if let Some((theirs, times, _)) = *run
                    && theirs == gram
                {
                    most = most.max(times);
                }
            }
            sum += count.min(most);
            own = self.run(next, n);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn grams(items: &[u32], order: u32) -> Grams {
        let mut grams = Grams::default();
        grams.fill(items.iter().copied(), order, 21);
        grams
    }

    proptest! {
        #[test]
        fn shared_grams_are_what_counting_gives(
            own in prop::collection::vec(0u32..4, 0..20),
            others in prop::collection::vec(prop::collection::vec(0u32..4, 0..20), 1..3),
            order in 1u32..=6,
        ) {
            fn counted(items: &[u32], n: usize) -> HashMap<&[u32], u64> {
                items.windows(n).fold(HashMap::new(), |mut map, w| { *map.entry(w).or_default() += 1; map })
            }
            let packed: Vec<Grams> = others.iter().map(|o| grams(o, order)).collect();
            let packed_own = grams(&own, order);
            for n in 1..=order {
                let theirs: Vec<_> = others.iter().map(|o| counted(o, n as usize)).collect();
                let mine = counted(&own, n as usize);
                let most = |g: &[u32]| theirs.iter().filter_map(|t| t.get(g)).max().copied().unwrap_or(0);
                let expected: u64 = mine.iter().map(|(g, &c)| c.min(most(g))).sum();
                prop_assert_eq!(packed_own.shared(&packed, n), expected);
                prop_assert_eq!(packed_own.count(n), mine.values().sum::<u64>());
            }
        }
    }
}
