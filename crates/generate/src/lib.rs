//! Generation: samplers, stopping, sessions over a sequence state.
