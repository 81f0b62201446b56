//! What can be drawn.

use super::{Axis, Plot, Scale, Series};
use crate::{Error, Result};

/// Beyond it differences of numbers, and so places on the paper, could leave f64.
const LARGEST: f64 = 1e300;

pub(super) fn check(plot: &Plot) -> Result<()> {
    if plot.series.is_empty() {
        return Err(Error::NoSeries { plot: plot.title.clone() });
    }
    plot.series.iter().try_for_each(|series| check_series(plot, series))
}

fn check_series(plot: &Plot, series: &Series) -> Result<()> {
    let names = || (plot.title.clone(), series.name.clone());
    if series.points.is_empty() {
        let (plot, series) = names();
        return Err(Error::NoPoints { plot, series });
    }
    if !series.labels.is_empty() && series.labels.len() != series.points.len() {
        let ((plot, series_name), labels, points) = (names(), series.labels.len(), series.points.len());
        return Err(Error::Labels { plot, series: series_name, labels, points });
    }
    for (point, &[x, y]) in series.points.iter().enumerate() {
        for (axis, value, name) in [(&plot.x, x, "x"), (&plot.y, y, "y")] {
            if let Some(rule) = broken_rule(axis, value) {
                let (plot, series) = names();
                return Err(Error::Point { plot, series, point, axis: name, value, rule });
            }
        }
    }
    Ok(())
}

/// The rule of the axis that a number breaks.
fn broken_rule(axis: &Axis, value: f64) -> Option<&'static str> {
    match axis.scale {
        _ if !value.is_finite() => Some("only finite numbers have a place"),
        _ if value.abs() > LARGEST => Some("numbers have to be within 1e300"),
        Scale::Log if value < 1e-300 => Some("a logarithmic axis has only numbers above zero (from 1e-300)"),
        _ => None,
    }
}
