//! Words as numbers, so that they are compared and counted by number.

use hashbrown::HashMap;

/// Numbers for words, from 0 up in the order in which they come.
#[derive(Debug, Default)]
pub(crate) struct Vocabulary {
    numbers: HashMap<String, u32>,
}

impl Vocabulary {
    /// A word's number.
    pub(crate) fn number(&mut self, word: &str) -> u32 {
        let next = self.numbers.len() as u32;
        *self.numbers.entry_ref(word).or_insert(next)
    }
}
