//! word2vec: skip-gram with negative sampling (Mikolov et al. 2013), on a small text that a grammar makes (book,
//! Part I, 5.1).

mod corpus;
mod train;
mod vectors;

pub use corpus::{Corpus, PEOPLE, Person};
pub use train::{Embeddings, Training, train};
pub use vectors::{Analogies, Neighbour, analogies, analogy, nearest};
