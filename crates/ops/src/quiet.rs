//! Keeping candle's own threads asleep.
//!
//! candle shares out every elementwise operation of more than 65,536 elements over threads of its own, which
//! spin for a good while after each. Its backward pass adds up gradients so, once for each edge of the
//! graph; on a machine with few cores the spinning threads take them away from ours (a training step of
//! the default model took half as much processor time again). Work that already runs on one of candle's
//! threads is not shared out, and that is what [`quietly`] makes use of.

use std::cell::Cell;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Set when the work is over, however it ends.
#[derive(Default)]
struct Over {
    over: Mutex<bool>,
    changed: Condvar,
}

struct Report<'a>(&'a Over);

impl Drop for Report<'_> {
    fn drop(&mut self) {
        INSIDE.set(false);
        *lock(&self.0.over) = true;
        self.0.changed.notify_all();
    }
}

/// Runs `work` on a thread on which candle's elementwise operations stay; the caller sleeps meanwhile. A panic
/// is passed on. While it runs, large elementwise operations of candle's on other threads wait.
pub fn quietly<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let threads = candle_core::utils::barrier_pool();
    let caller = threads.n_workers();
    if caller == 0 || INSIDE.get() {
        return work();
    }
    let (job, result) = (Mutex::new(Some(work)), Mutex::new(None));
    let over = Over::default();
    threads.execute(|thread| {
        if thread == 0 {
            INSIDE.set(true);
            let _report = Report(&over);
            let work = lock(&job).take();
            *lock(&result) = work.map(|work| work());
        } else if thread == caller {
            let mut done = lock(&over.over);
            while !*done {
                done = over.changed.wait(done).unwrap_or_else(PoisonError::into_inner);
            }
        }
    });
    let result = result.into_inner().unwrap_or_else(PoisonError::into_inner);
    result.expect("the first thread ran the work, or its panic was passed on")
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};

    #[test]
    fn work_gives_its_result_also_when_nested_and_candle_works_inside() {
        let ones = Tensor::ones((300, 300), DType::F32, &Device::Cpu).unwrap();
        let sum = quietly(|| {
            let twice = quietly(|| (&ones + &ones).unwrap());
            twice.sum_all().unwrap().to_scalar::<f32>().unwrap()
        });
        assert_eq!(sum, 180_000.0);
        // And candle's threads serve others afterwards.
        assert_eq!((&ones + &ones).unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap(), 180_000.0);
    }

    #[test]
    fn many_callers_take_turns() {
        let sums: Vec<usize> = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..8).map(|i| scope.spawn(move || quietly(|| i * i))).collect();
            handles.into_iter().map(|h| h.join().unwrap()).collect()
        });
        assert_eq!(sums, [0, 1, 4, 9, 16, 25, 36, 49]);
    }
}
