//! Attention: softmax(scale * Q K^T) V over the entries that a row may see.

pub mod backward;
pub mod dense;
pub mod paged;

/// Which cache entries a row sees, as bounds of a loop; there is no mask tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mask {
    /// All entries up to and including its own.
    Causal,
    /// Of those, the ones whose position is less than the given number of positions back, itself included.
    Window(usize),
    /// All entries of its sequence, later ones too (encoders).
    Full,
}
