//! One forward pass, two executors: steps, linear projections, batches, sequence state, name tables.
