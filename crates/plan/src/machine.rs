//! What a machine can do: measured elsewhere, or given.

/// A machine's limits; `None` is what nobody said.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Machine {
    /// Memory, in bytes.
    pub ram: Option<u64>,
    /// Bytes that it reads from memory in a second.
    pub bandwidth: Option<u64>,
    /// Operations a second, a multiply-add being two, in the arithmetic that the work is done in.
    pub flops: Option<u64>,
    /// Threads that work.
    pub threads: u64,
}
