//! Moving a decoder's projections from their file's mapping into huge pages.
//!
//! A generated token reads every projection once, from end to end, and a mapping of a file comes in pages of four
//! kilobytes: while one is translated, nothing is read. A copy in huge pages made generation 3 to 15 %
//! faster where it was measured, takes a tenth of a second for a gigabyte, and takes the place of the mapped pages, which go back to
//! the system piece by piece. Norms and biases go along: a look at one would map all that lies around it again, up to two megabytes
//! of the file. What is looked up row by row stays where it is, unless it is a projection too: embeddings, experts.

use std::sync::Arc;

use porism_formats::{Storage, Weight};
use porism_kernels::Pool;
use porism_kernels::arena::gather;

use crate::parts::Norm;
use crate::{Decoder, DeltaKind, Linear, Result};

impl Decoder {
    /// Bytes that [`Decoder::settle`] copies.
    pub fn settled_bytes(&mut self) -> usize {
        self.linears_mut().map(|l| l.weight.bytes().len()).sum()
    }

    /// Copies the weights of all projections outside of mixtures into huge pages, in the order of a forward pass, with their
    /// biases, and behind them the norms.
    pub fn settle(&mut self, pool: &Pool) -> Result<()> {
        let weights: Vec<Weight> = self.settling().into_iter().map(|w| w.clone()).collect();
        let bytes: Vec<&[u8]> = weights.iter().map(Weight::bytes).collect();
        let (room, starts) = gather(pool, &bytes, &|slice, piece| weights[slice].storage().release(piece));
        // The system maps some pages around each that is asked for, and these are still there.
        release_storages(weights.iter());
        let room: Arc<dyn Storage> = Arc::new(room);
        for (weight, &start) in self.settling().into_iter().zip(&starts) {
            *weight = weight.at(room.clone(), start)?;
        }
        // A head that is the embedding stays one with it, so that no part of the table is held twice.
        let table = &mut self.stack.embeddings.tokens.weight;
        if let Some(same) = weights.iter().position(|w| w.bytes().as_ptr_range() == table.bytes().as_ptr_range()) {
            *table = table.at(room, starts[same])?;
        }
        Ok(())
    }

    /// Gives the pages back that projections and tables were read from: where values that are trained take their place, nobody
    /// reads them soon.
    pub fn release(&self) {
        let table = &self.stack.embeddings.tokens.weight;
        release_storages(self.linears().map(|linear| &linear.weight).chain([table]));
    }

    /// What is copied, always in the same order.
    fn settling(&mut self) -> Vec<&mut Weight> {
        let (stack, head) = (&mut self.stack, &mut self.head);
        let mut norms: Vec<&mut Norm> = stack.embeddings.norm.iter_mut().collect();
        let mut weights = Vec::new();
        for block in &mut stack.blocks {
            let (linears, of_block) = block.linears_and_norms_mut();
            linears.into_iter().for_each(|linear| linear_weights(linear, &mut weights));
            norms.extend(of_block);
        }
        linear_weights(&mut head.linear, &mut weights);
        norms.push(&mut head.norm);
        weights.extend(norms.into_iter().flat_map(|norm| std::iter::once(&mut norm.weight).chain(&mut norm.bias)));
        weights
    }
}

/// Gives back all pages of what weights lie in.
fn release_storages<'a>(weights: impl Iterator<Item = &'a Weight>) {
    let mut storages: Vec<&Arc<dyn Storage>> = weights.map(Weight::storage).collect();
    storages.dedup_by_key(|s| s.bytes().as_ptr());
    storages.iter().for_each(|s| s.release(s.bytes()));
}

/// A projection's weight and its biases.
fn linear_weights<'a>(linear: &'a mut Linear, to: &mut Vec<&'a mut Weight>) {
    to.push(&mut linear.weight);
    to.extend(linear.deltas.iter_mut().filter_map(|delta| match &mut delta.kind {
        DeltaKind::Bias(bias) => Some(bias),
        _ => None,
    }));
}
