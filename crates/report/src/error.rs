//! What cannot be drawn or computed.

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why there is no picture or number.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A plot without series.
    #[error("the plot `{plot}` has no series: there is nothing to draw")]
    NoSeries {
        /// The plot's title.
        plot: String,
    },
    /// A series without points.
    #[error("the series `{series}` of the plot `{plot}` has no points: leave it out")]
    NoPoints {
        /// The plot's title.
        plot: String,
        /// The series' name.
        series: String,
    },
    /// A number that has no place on its axis.
    #[error("point {point} of the series `{series}` of the plot `{plot}`: {axis} is {value}, and {rule}")]
    Point {
        /// The plot's title.
        plot: String,
        /// The series' name.
        series: String,
        /// Which point, from 0.
        point: usize,
        /// `x` or `y`.
        axis: &'static str,
        /// The number.
        value: f64,
        /// What the axis asks of its numbers.
        rule: &'static str,
    },
    /// Labels that are not one for each point.
    #[error("the series `{series}` of the plot `{plot}` has {labels} labels for {points} points")]
    Labels {
        /// The plot's title.
        plot: String,
        /// The series' name.
        series: String,
        /// How many labels.
        labels: usize,
        /// How many points.
        points: usize,
    },
    /// Numbers that no interval or test can be made of.
    #[error("{0}")]
    Interval(String),
}
