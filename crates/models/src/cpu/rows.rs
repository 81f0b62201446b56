//! Activations of the CPU executor, in buffers that go back to a shelf when they are dropped, so that a
//! running decoder allocates nothing of their size.

use std::sync::{Arc, Mutex};

/// Buffers that wait for their next use.
#[derive(Clone, Default)]
pub(super) struct Shelf(Arc<Mutex<Vec<Vec<f32>>>>);

impl Shelf {
    /// A buffer of `tokens x width` numbers with unspecified contents.
    pub(super) fn rows(&self, tokens: usize, width: usize) -> Rows {
        let len = tokens * width;
        let mut free = self.0.lock().unwrap_or_else(|e| e.into_inner());
        // The smallest that is large enough, or else the largest, to be grown.
        let best = (0..free.len()).min_by_key(|&i| {
            let held = free[i].len();
            if held >= len { (0, held) } else { (1, usize::MAX - held) }
        });
        let mut data = best.map(|i| free.swap_remove(i)).unwrap_or_default();
        drop(free);
        // A longer one stays as long as it is: it need not be filled again the next time.
        if data.len() < len {
            data.resize(len, 0.0);
        }
        Rows { data, tokens, width, shelf: self.clone() }
    }
}

/// Activations, f32 `[tokens, width]`, row-major.
pub struct Rows {
    /// At least `tokens * width` numbers.
    data: Vec<f32>,
    tokens: usize,
    width: usize,
    shelf: Shelf,
}

impl Rows {
    /// The numbers.
    pub fn data(&self) -> &[f32] {
        &self.data[..self.tokens * self.width]
    }

    /// The numbers, to be changed.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data[..self.tokens * self.width]
    }

    /// Number of rows.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Numbers a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Row `i`.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.width..(i + 1) * self.width]
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        self.shelf.0.lock().unwrap_or_else(|e| e.into_inner()).push(data);
    }
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rows({}x{})", self.tokens, self.width)
    }
}
