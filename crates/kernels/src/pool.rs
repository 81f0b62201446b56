//! The thread pool: a fixed set of threads that share the tiles of one job after another.
//!
//! A job is a closure over tile numbers; threads take the next tile from a shared counter, so a slow
//! core simply takes fewer. Between jobs a worker spins for a moment, since decoding submits a job
//! every few microseconds, then parks, so an idle program costs nothing and more threads than cores
//! still make progress. A panic in a tile is carried to the caller.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

type Job = *const (dyn Fn(usize) + Sync);

/// How long a worker spins for the next job before it parks. Longer than the serial stretches between
/// two jobs of a decoding step, short enough not to be seen in `top`.
const SPIN: Duration = Duration::from_micros(200);

struct Shared {
    /// The number of the current job; workers wait for it to change.
    epoch: AtomicU64,
    /// The job, valid while `epoch` is current and `busy` workers have not all reported.
    job: Mutex<Option<SendJob>>,
    next: AtomicUsize,
    tiles: AtomicUsize,
    busy: AtomicUsize,
    stop: AtomicBool,
    sleepers: Mutex<usize>,
    wake: Condvar,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

#[derive(Clone, Copy)]
struct SendJob(Job);
// SAFETY: the closure behind the pointer is `Sync`, and `Pool::run` does not return before every
// worker has finished with it.
unsafe impl Send for SendJob {}

/// A handle on the threads. Dropping it ends them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    running: Mutex<()>,
}

impl Pool {
    /// A pool of `threads` threads, the calling one included (at least one).
    pub fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared {
            epoch: AtomicU64::new(0),
            job: Mutex::new(None),
            next: AtomicUsize::new(0),
            tiles: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            sleepers: Mutex::new(0),
            wake: Condvar::new(),
            panic: Mutex::new(None),
        });
        let workers = (1..threads.max(1))
            .filter_map(|i| {
                let shared = shared.clone();
                std::thread::Builder::new().name(format!("porism-{i}")).spawn(move || work(&shared)).ok()
            })
            .collect();
        Pool { shared, workers, running: Mutex::new(()) }
    }

    /// Threads of the pool, the calling one included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `tile(0) .. tile(tiles - 1)`, each once, on all threads; returns when all are done.
    ///
    /// Not to be called from inside a tile.
    pub fn run(&self, tiles: usize, tile: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() || tiles <= 1 {
            (0..tiles).for_each(tile);
            return;
        }
        let _one_job = self.running.lock().unwrap_or_else(|e| e.into_inner());
        let s = &*self.shared;
        // SAFETY: only the lifetime is erased; the pointer is used until `busy` is back at zero, which
        // this function waits for.
        let job: Job = unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync + 'static)>(tile)
        };
        *s.job.lock().unwrap_or_else(|e| e.into_inner()) = Some(SendJob(job));
        s.tiles.store(tiles, Ordering::Relaxed);
        s.next.store(0, Ordering::Relaxed);
        s.busy.store(self.workers.len(), Ordering::Relaxed);
        s.epoch.fetch_add(1, Ordering::SeqCst);
        if *s.sleepers.lock().unwrap_or_else(|e| e.into_inner()) > 0 {
            s.wake.notify_all();
        }
        take_tiles(s, tile);
        let started = Instant::now();
        let mut turns = 0u32;
        while s.busy.load(Ordering::Acquire) > 0 {
            std::hint::spin_loop();
            turns = turns.wrapping_add(1);
            // With more threads than cores the worker we wait for may need this very core.
            if turns.is_multiple_of(256) && started.elapsed() > SPIN {
                std::thread::yield_now();
            }
        }
        *s.job.lock().unwrap_or_else(|e| e.into_inner()) = None;
        if let Some(panic) = s.panic.lock().unwrap_or_else(|e| e.into_inner()).take() {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        {
            let _sleepers = self.shared.sleepers.lock().unwrap_or_else(|e| e.into_inner());
            self.shared.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} threads)", self.threads())
    }
}

/// Cores that this process may use: its affinity mask and its control group's quota, at least one.
pub fn usable_cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

fn take_tiles(s: &Shared, tile: &(dyn Fn(usize) + Sync)) {
    let tiles = s.tiles.load(Ordering::Relaxed);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        loop {
            let i = s.next.fetch_add(1, Ordering::Relaxed);
            if i >= tiles {
                break;
            }
            tile(i);
        }
    }));
    if let Err(panic) = outcome {
        // The others stop at their next tile.
        s.next.store(tiles, Ordering::Relaxed);
        s.panic.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(panic);
    }
}

fn work(s: &Shared) {
    let mut seen = 0;
    loop {
        seen = wait_for_job(s, seen);
        if s.stop.load(Ordering::SeqCst) {
            return;
        }
        let job = *s.job.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(SendJob(job)) = job {
            // SAFETY: `Pool::run` keeps the closure alive until `busy` reaches zero.
            take_tiles(s, unsafe { &*job });
        }
        s.busy.fetch_sub(1, Ordering::Release);
    }
}

/// Spins, then parks, until the epoch is no longer `seen`; returns the new one.
fn wait_for_job(s: &Shared, seen: u64) -> u64 {
    let started = Instant::now();
    let mut turns = 0u32;
    loop {
        let epoch = s.epoch.load(Ordering::SeqCst);
        if epoch != seen {
            return epoch;
        }
        std::hint::spin_loop();
        turns = turns.wrapping_add(1);
        if turns.is_multiple_of(64) && started.elapsed() > SPIN {
            break;
        }
    }
    let mut sleepers = s.sleepers.lock().unwrap_or_else(|e| e.into_inner());
    *sleepers += 1;
    while s.epoch.load(Ordering::SeqCst) == seen {
        sleepers = s.wake.wait(sleepers).unwrap_or_else(|e| e.into_inner());
    }
    *sleepers -= 1;
    s.epoch.load(Ordering::SeqCst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tile_runs_once() {
        for threads in [1, 2, 3, 7] {
            let pool = Pool::new(threads);
            for tiles in [0, 1, 2, 5, 1000] {
                let counts: Vec<AtomicUsize> = (0..tiles).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tiles, &|i| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1), "{threads} threads, {tiles} tiles");
            }
        }
    }

    #[test]
    fn workers_wake_after_parking() {
        let pool = Pool::new(2);
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(2));
            let sum = AtomicUsize::new(0);
            pool.run(100, &|i| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
            assert_eq!(sum.load(Ordering::Relaxed), 4950);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(3);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            pool.run(50, &|i| assert_ne!(i, 20, "tile twenty"));
        }));
        assert!(outcome.is_err());
        let sum = AtomicUsize::new(0);
        pool.run(10, &|i| {
            sum.fetch_add(i, Ordering::Relaxed);
        });
        assert_eq!(sum.load(Ordering::Relaxed), 45);
    }
}
