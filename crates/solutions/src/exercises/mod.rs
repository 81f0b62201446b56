//! One exercise a file: what is asked, what can be changed, and the steps.

pub(crate) mod attention_cost;
pub(crate) mod backpropagation;
pub(crate) mod embeddings;
pub(crate) mod experts_and_policy;
pub(crate) mod linear_algebra;
pub(crate) mod logistic_regression;
pub(crate) mod lstm_gates;
pub(crate) mod optimization;
pub(crate) mod pipeline;
mod planned;
pub(crate) mod transformer;
