//! The tape executor: the steps on candle tensors, differentiable.
