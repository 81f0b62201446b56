//! Line plots as SVG: a title, two axes with round ticks, named series, a legend.
//!
//! A picture has a white ground of its own, so that it reads the same in light and dark viewers; its colours can be
//! told apart by people who see red and green alike, and dashes and marks tell series apart without any.

mod axis;
mod check;
mod draw;
mod label;
mod legend;
mod palette;
mod range;
mod svg;
mod ticks;

use serde::Serialize;

use crate::Result;

/// How an axis spaces its numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// Equal differences are equally far apart.
    #[default]
    Linear,
    /// Equal ratios are equally far apart; numbers have to be above zero.
    Log,
}

/// An axis.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Axis {
    /// What it measures, with the unit.
    pub label: String,
    /// How it spaces its numbers.
    pub scale: Scale,
}

impl Axis {
    /// A linear axis.
    pub fn linear(label: impl Into<String>) -> Axis {
        Axis { label: label.into(), scale: Scale::Linear }
    }

    /// A logarithmic axis.
    pub fn log(label: impl Into<String>) -> Axis {
        Axis { label: label.into(), scale: Scale::Log }
    }
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// A line through the points.
    #[default]
    Line,
    /// The points alone.
    Points,
    /// A line and the points on it.
    LineAndPoints,
}

/// Points that belong together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Series {
    /// The name in the legend; without one it is not in the legend.
    pub name: String,
    /// The points, `[x, y]`, in the order in which a line joins them.
    pub points: Vec<[f64; 2]>,
    /// How it is drawn.
    pub mark: Mark,
    /// Whether its line is broken.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dashed: bool,
    /// A colour of the palette, by number; by default that of its place among the series.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub colour: Option<usize>,
    /// A text at each point; none, or as many as points. An empty one is not drawn.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
}

impl Series {
    /// A line.
    pub fn line(name: impl Into<String>, points: Vec<[f64; 2]>) -> Series {
        Series { name: name.into(), points, ..Series::default() }
    }

    /// Points without a line.
    pub fn points(name: impl Into<String>, points: Vec<[f64; 2]>) -> Series {
        Series { mark: Mark::Points, ..Series::line(name, points) }
    }

    /// A line with its points.
    pub fn trace(name: impl Into<String>, points: Vec<[f64; 2]>) -> Series {
        Series { mark: Mark::LineAndPoints, ..Series::line(name, points) }
    }

    /// The same with a text at each point.
    pub fn labelled(self, labels: Vec<String>) -> Series {
        Series { labels, ..self }
    }

    /// The same in this colour of the palette.
    pub fn coloured(self, colour: usize) -> Series {
        Series { colour: Some(colour), ..self }
    }

    /// The same with a broken line.
    pub fn dashed(self) -> Series {
        Series { dashed: true, ..self }
    }
}

/// A plot.
///
/// ```
/// use porism_report::plot::{Axis, Plot, Series};
///
/// let loss = Series::line("training", vec![[0.0, 2.3], [1.0, 1.1], [2.0, 0.7]]);
/// let plot = Plot::new("Loss", Axis::linear("epoch"), Axis::linear("nats a token")).with(loss);
/// assert!(plot.svg().unwrap().starts_with("<svg"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plot {
    /// What it shows.
    pub title: String,
    /// The axis to the right.
    pub x: Axis,
    /// The axis upwards.
    pub y: Axis,
    /// Whether one unit is as long upwards as to the right, so that angles are true. Linear axes only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub true_angles: bool,
    /// What is drawn, the first lowest.
    pub series: Vec<Series>,
}

impl Plot {
    /// A plot without series.
    pub fn new(title: impl Into<String>, x: Axis, y: Axis) -> Plot {
        Plot { title: title.into(), x, y, ..Plot::default() }
    }

    /// The same with one series more.
    pub fn with(mut self, series: Series) -> Plot {
        self.series.push(series);
        self
    }

    /// The picture: an SVG document of 720 by 450 units, to be scaled at will.
    ///
    /// # Errors
    /// There is nothing to draw, a number is not finite (or not above zero on a logarithmic axis), or the labels of a
    /// series are not one for each point.
    pub fn svg(&self) -> Result<String> {
        check::check(self)?;
        Ok(draw::draw(self))
    }
}
