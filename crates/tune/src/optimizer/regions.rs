//! The bytes of a state, a region for each tensor, in memory or in a mapped file.

use super::StateStorage;
use super::paged::Paged;
use crate::Result;

/// Regions that begin at multiples of four; zeros at first.
#[derive(Debug)]
pub(super) enum Regions {
    Memory(Vec<Vec<f32>>),
    Paged(Paged),
}

impl Regions {
    /// Regions of these sizes, which are multiples of four but for what is rounded up.
    pub(super) fn new(sizes: &[usize], storage: &StateStorage) -> Result<Regions> {
        Ok(match storage {
            StateStorage::Memory => Regions::Memory(sizes.iter().map(|&bytes| vec![0.0; bytes.div_ceil(4)]).collect()),
            StateStorage::Paged(folder) => Regions::Paged(Paged::new(sizes, folder)?),
        })
    }

    /// A region; in memory up to three bytes longer than was asked for.
    pub(super) fn bytes(&self, index: usize) -> &[u8] {
        match self {
            Regions::Memory(regions) => bytemuck::cast_slice(&regions[index]),
            Regions::Paged(paged) => paged.bytes(index),
        }
    }

    /// The same, to change.
    pub(super) fn bytes_mut(&mut self, index: usize) -> &mut [u8] {
        match self {
            Regions::Memory(regions) => bytemuck::cast_slice_mut(&mut regions[index]),
            Regions::Paged(paged) => paged.bytes_mut(index),
        }
    }

    /// Says that the region will be read soon.
    pub(super) fn will_need(&self, index: usize) {
        if let Regions::Paged(paged) = self {
            paged.will_need(index);
        }
    }

    /// Says that the region will not be used for a while.
    pub(super) fn may_go(&self, index: usize) {
        if let Regions::Paged(paged) = self {
            paged.may_go(index);
        }
    }
}
