//! Other numbers in the place of some weights and biases.

use std::collections::{HashMap, HashSet};

use porism_formats::Weight;

use super::plan::Plan;
use crate::site::Site;
use crate::source::ModelSource;
use crate::{Error, Result};

/// Which tensor of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The weight.
    Weight,
    /// The bias, one row.
    Bias,
}

/// New numbers by what they replace, as the source's decoder has them: fused projections in parts, norms' factors as the
/// file keeps them.
pub type Replaced = HashMap<(Site, Part), Weight>;

/// Puts new numbers in the place of the source's own.
pub(super) fn replace(plan: &mut Plan, source: &ModelSource, by: &Replaced) -> Result<()> {
    let mut used = HashSet::new();
    for item in &mut plan.items {
        let Some(site) = item.site else { continue };
        let part = if item.bias { Part::Bias } else { Part::Weight };
        let keys: Vec<(Site, Part)> = site.parts().into_iter().map(|site| (site, part)).collect();
        let own: Vec<&Weight> = keys.iter().filter_map(|key| by.get(key)).collect();
        let weight = match own[..] {
            [] => continue,
            [whole] if keys.len() == 1 => whole.clone(),
            _ if own.len() == keys.len() => stacked(&own, part)?,
            _ => {
                return Err(Error::Convert(format!("{}: there are new numbers for a part of it only", item.origin)));
            }
        };
        if weight.len() != item.weight.len() || weight.cols() != item.weight.cols() {
            return Err(Error::Convert(format!(
                "{}: {} x {} numbers in the place of {} x {}",
                item.origin,
                weight.rows(),
                weight.cols(),
                item.weight.rows(),
                item.weight.cols()
            )));
        }
        if item.block != weight.block() && !item.block.has_encoder() {
            return Err(Error::Convert(format!(
                "{} is of type {}, which cannot be written yet: write f32, f16 or bf16",
                item.origin, item.block
            )));
        }
        item.weight = weight;
        used.extend(keys);
    }
    match by.keys().find(|key| !used.contains(key)) {
        Some((site, part)) => {
            let what = if *part == Part::Bias { "bias" } else { "weight" };
            Err(Error::Convert(format!("{}: there is no tensor for the {what} of {site}, which is new", source.name())))
        }
        None => Ok(()),
    }
}

/// A fused tensor from its parts.
fn stacked(parts: &[&Weight], part: Part) -> Result<Weight> {
    let values: Vec<f32> = parts.iter().flat_map(|weight| weight.to_f32()).collect();
    let rows = if part == Part::Bias { 1 } else { parts.iter().map(|weight| weight.rows()).sum() };
    Ok(Weight::from_f32(&values, rows, values.len() / rows.max(1))?)
}
