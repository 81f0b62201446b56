//! The kernels as candle custom operations, each with a tested gradient.
