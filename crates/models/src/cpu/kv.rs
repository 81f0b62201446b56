//! How the cache keeps numbers: as computed, or rounded.

use half::f16;
use porism_kernels::arena::{Arena, Room};
use porism_kernels::attention::paged::{KV_BLOCK, KvSlice, KvSliceMut, Q4Tile, Q8Tile};

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvType {
    /// As computed.
    F32,
    /// Rounded to half precision.
    F16,
    /// Rounded to 8 bits in blocks of 32 with an f16 scale; heads must be whole blocks.
    Q8_0,
    /// Rounded to 4 bits in blocks of 32 with an f16 scale; heads must be whole blocks.
    Q4_0,
}

impl KvType {
    /// Every type.
    pub const ALL: [KvType; 4] = [KvType::F32, KvType::F16, KvType::Q8_0, KvType::Q4_0];

    /// The name used in flags and reports.
    pub const fn name(self) -> &'static str {
        match self {
            KvType::F32 => "f32",
            KvType::F16 => "f16",
            KvType::Q8_0 => "q8_0",
            KvType::Q4_0 => "q4_0",
        }
    }

    /// Bytes of `numbers` numbers, of block types whole blocks.
    pub const fn bytes(self, numbers: usize) -> usize {
        match self {
            KvType::F32 => 4 * numbers,
            KvType::F16 => 2 * numbers,
            KvType::Q8_0 => numbers / KV_BLOCK * (size_of::<f16>() + KV_BLOCK),
            KvType::Q4_0 => numbers / KV_BLOCK * (size_of::<f16>() + KV_BLOCK / 2),
        }
    }

    /// Whether heads of `head_dim` numbers can be kept.
    pub const fn fits(self, head_dim: usize) -> bool {
        matches!(self, KvType::F32 | KvType::F16) || head_dim.is_multiple_of(KV_BLOCK)
    }
}

/// Numbers of a page.
#[derive(Clone)]
pub(super) enum Buffer {
    F32(Room<f32>),
    F16(Room<f16>),
    Q8(Room<Q8Tile>),
    Q4(Room<Q4Tile>),
}

impl Buffer {
    /// Room for `len` numbers of a page, of block types whole tiles; what is in it means nothing.
    pub(super) fn new(arena: &Arena, kind: KvType, len: usize) -> Buffer {
        match kind {
            KvType::F32 => Buffer::F32(arena.room(len)),
            KvType::F16 => Buffer::F16(arena.room(len)),
            KvType::Q8_0 => Buffer::Q8(arena.room(kind.bytes(len) / size_of::<Q8Tile>())),
            KvType::Q4_0 => Buffer::Q4(arena.room(kind.bytes(len) / size_of::<Q4Tile>())),
        }
    }

    pub(super) fn slice(&self) -> KvSlice<'_> {
        match self {
            Buffer::F32(b) => KvSlice::F32(b),
            Buffer::F16(b) => KvSlice::F16(b),
            Buffer::Q8(b) => KvSlice::Q8_0(b),
            Buffer::Q4(b) => KvSlice::Q4_0(b),
        }
    }

    pub(super) fn slice_mut(&mut self) -> KvSliceMut<'_> {
        match self {
            Buffer::F32(b) => KvSliceMut::F32(b),
            Buffer::F16(b) => KvSliceMut::F16(b),
            Buffer::Q8(b) => KvSliceMut::Q8_0(b),
            Buffer::Q4(b) => KvSliceMut::Q4_0(b),
        }
    }
}
