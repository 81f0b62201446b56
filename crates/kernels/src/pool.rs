//! The thread pool: a fixed set of threads that share the tiles of one job after another.
//!
//! A job is a closure over tile numbers. Each thread has a run of neighbouring tiles, so that it reads memory in
//! order, and takes from the others' runs when its own is done, so that a slow core simply does less. A job is
//! over when all its *tiles* are: a worker that the system has put aside is not waited for, unless it holds a tile.
//!
//! When tiles are waited for far longer than a tile takes, again and again, another program is using the core of the
//! thread that holds them. For some time then workers are careful: they sleep a little before their share of the core is used up,
//! so that they are put aside between tiles and not inside one.
//!
//! Between jobs a worker spins for a moment, since decoding submits a job every few microseconds, then parks, so
//! an idle program costs nothing. No more threads are awake at once than there are cores; a larger pool's other
//! threads stay parked and take turns. A panic in a tile is carried to the caller.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a worker spins for the next job before it parks. Longer than the serial stretches between
/// two jobs of a decoding step, short enough not to be seen in `top`.
const SPIN: Duration = Duration::from_micros(200);
/// A tile that is waited for longer than this, and than some tiles take, was put aside with its thread.
const STALL: Duration = Duration::from_micros(500);
/// Tiles in a stall.
const STALL_TILES: u32 = 8;
/// Stalls that make workers careful, if they come within [`OFTEN`]. A busy neighbour makes one with each of its time
/// slices; a single one may be anything.
const STALLS: usize = 3;
/// The time in which they have to come.
const OFTEN: Duration = Duration::from_millis(60);
/// How long a careful worker runs at a stretch: less than a scheduler's time slice.
const STRETCH: Duration = Duration::from_micros(600);
/// How long it sleeps then.
const REST: Duration = Duration::from_micros(400);
/// How long workers are careful after a stall; doubled with each stall that soon follows, up to the longest.
const CAREFUL: std::ops::RangeInclusive<Duration> = Duration::from_millis(250)..=Duration::from_secs(4);
/// Jobs after which an awake worker makes way for a parked one, if the pool has more threads than cores.
const TURN: u32 = 4096;

/// A run of tiles that are still to be taken: the next one in the low half, the end in the high half. A thread
/// takes by adding one, and has taken nothing if that was the end already. What late threads add to an empty run
/// is overwritten with the next job.
#[repr(align(128))]
#[derive(Default)]
struct Run(AtomicU64);

impl Run {
    fn set(&self, first: u32, end: u32) {
        self.0.store(u64::from(end) << 32 | u64::from(first), Ordering::Release);
    }

    /// Gives up what is left; returns how many tiles that was.
    fn clear(&self) -> usize {
        let was = self.0.swap(0, Ordering::AcqRel);
        ((was >> 32) as u32).saturating_sub(was as u32) as usize
    }

    fn take(&self) -> Option<usize> {
        // Looked at first, so that waiting threads do not count far beyond the end.
        let seen = self.0.load(Ordering::Relaxed);
        if seen as u32 >= (seen >> 32) as u32 {
            return None;
        }
        let was = self.0.fetch_add(1, Ordering::AcqRel);
        ((was as u32) < (was >> 32) as u32).then_some(was as u32 as usize)
    }
}

/// A job: the closure. It lives on the stack of [`Pool::run`], which returns only when every tile is done; and who
/// has no tile does not look at it.
struct Job<'a>(&'a (dyn Fn(usize) + Sync));

struct Shared {
    runs: Vec<Run>,
    /// Valid while a tile is taken and not done.
    job: AtomicPtr<Job<'static>>,
    /// Tiles of the job that are not done.
    left: AtomicUsize,
    /// The number of the current job; workers wait for it to change.
    epoch: AtomicU64,
    /// Threads that are not parked, the caller included.
    awake: AtomicUsize,
    /// Threads that may be awake at once.
    cores: usize,
    stop: AtomicBool,
    /// Workers are careful until this many nanoseconds after the start.
    careful_until: AtomicU64,
    started: Instant,
    parked: Mutex<()>,
    wake: Condvar,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// A handle on the threads. Dropping it ends them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held while a job runs.
    running: Mutex<Stalls>,
}

/// Waits for threads that the system had put aside; times are since the start.
#[derive(Default)]
struct Stalls {
    /// When the last ones were, the oldest first.
    times: [Duration; STALLS],
    /// How long they made workers careful the last time, and until when.
    length: Duration,
    end: Duration,
}

impl Stalls {
    /// One more. Returns until when workers have to be careful, if it made them so.
    fn another(&mut self, now: Duration) -> Option<Duration> {
        self.times.rotate_left(1);
        self.times[STALLS - 1] = now;
        if self.times[0].is_zero() || now - self.times[0] > OFTEN {
            return None;
        }
        let soon = now < self.end + self.length;
        self.length = if soon { (self.length * 2).min(*CAREFUL.end()) } else { *CAREFUL.start() };
        self.end = now + self.length;
        Some(self.end)
    }
}

impl Pool {
    /// A pool of `threads` threads, the calling one included (at least one).
    pub fn new(threads: usize) -> Pool {
        let threads = threads.max(1);
        let shared = Arc::new(Shared {
            runs: (0..threads).map(|_| Run::default()).collect(),
            job: AtomicPtr::new(std::ptr::null_mut()),
            left: AtomicUsize::new(0),
            epoch: AtomicU64::new(0),
            awake: AtomicUsize::new(1),
            cores: usable_cores(),
            stop: AtomicBool::new(false),
            careful_until: AtomicU64::new(0),
            started: Instant::now(),
            parked: Mutex::new(()),
            wake: Condvar::new(),
            panic: Mutex::new(None),
        });
        let workers = (1..threads)
            .filter_map(|i| {
                let shared = shared.clone();
                std::thread::Builder::new().name(format!("porism-{i}")).spawn(move || work(&shared, i)).ok()
            })
            .collect();
        Pool { shared, workers, running: Mutex::default() }
    }

    /// Threads of the pool, the calling one included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `tile(0) .. tile(tiles - 1)`, each once, on all threads; returns when all are done.
    ///
    /// Not to be called from inside a tile.
    ///
    /// # Panics
    /// If a tile does, or there are 2^32 tiles or more.
    pub fn run(&self, tiles: usize, tile: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() || tiles <= 1 {
            (0..tiles).for_each(tile);
            return;
        }
        assert!(tiles < u32::MAX as usize, "{tiles} tiles in one job");
        let mut stalls = self.running.lock().unwrap_or_else(|e| e.into_inner());
        let s = &*self.shared;
        let job = Job(tile);
        // Only the lifetime is erased: see `Job`.
        s.job.store((&raw const job).cast::<Job<'static>>().cast_mut(), Ordering::Relaxed);
        s.left.store(tiles, Ordering::Relaxed);
        // Only as many threads as can be awake have tiles of their own. Which workers these are is not known, so
        // they look at the first runs first.
        let sharers = s.runs.len().min(s.cores).max(1);
        for (i, run) in s.runs[..sharers].iter().enumerate() {
            run.set((tiles * i / sharers) as u32, (tiles * (i + 1) / sharers) as u32);
        }
        s.epoch.fetch_add(1, Ordering::SeqCst);
        if s.awake.load(Ordering::SeqCst) < sharers {
            // Under the lock: a worker that is about to park has looked at the epoch before it sleeps.
            let _parked = s.parked.lock().unwrap_or_else(|e| e.into_inner());
            for _ in s.awake.load(Ordering::SeqCst)..sharers {
                s.wake.notify_one();
            }
        }
        let begun = s.started.elapsed();
        let taken = take_tiles(s, 0, None);
        let ended = s.started.elapsed();
        let mut turns = 0u32;
        while s.left.load(Ordering::Acquire) > 0 {
            std::hint::spin_loop();
            turns = turns.wrapping_add(1);
            // A tile takes some microseconds: if it takes much longer, whoever holds it may need this very core.
            if turns.is_multiple_of(1 << 14) {
                std::thread::yield_now();
            }
        }
        if turns > 256 {
            let now = s.started.elapsed();
            let tile_time = (ended - begun) / taken.max(1);
            let stalled = taken > 0 && now - ended > STALL.max(tile_time * STALL_TILES);
            if stalled && let Some(end) = stalls.another(now) {
                s.careful_until.store(end.as_nanos() as u64, Ordering::Relaxed);
            }
        }
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
            let _parked = self.shared.parked.lock().unwrap_or_else(|e| e.into_inner());
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

/// Works off run `own`, then what the others have left, but no longer than `until`. Returns the tiles done.
fn take_tiles(s: &Shared, own: usize, until: Option<Instant>) -> u32 {
    let sharers = s.runs.len();
    let mut count = 0;
    for i in 0..sharers {
        let run = &s.runs[(own + i) % sharers];
        while let Some(i) = run.take() {
            // SAFETY: tile `i` is taken and not done, so `Pool::run` waits for it, with the job on its stack. The
            // pointer was stored before the run that the tile came from.
            let job = unsafe { &*s.job.load(Ordering::Relaxed) };
            let outcome = catch_unwind(AssertUnwindSafe(|| (job.0)(i)));
            let mut done = 1;
            if let Err(panic) = outcome {
                // Nobody needs the other tiles any more.
                done += s.runs.iter().map(Run::clear).sum::<usize>();
                s.panic.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(panic);
            }
            s.left.fetch_sub(done, Ordering::Release);
            count += 1;
            if until.is_some_and(|until| Instant::now() > until) {
                return count;
            }
        }
    }
    count
}

fn work(s: &Shared, index: usize) {
    let mut seen = 0;
    let mut jobs = 0;
    let mut awake = false;
    let mut rested = Instant::now();
    loop {
        let epoch = if awake { spin(s, seen) } else { None };
        seen = match epoch {
            Some(epoch) => epoch,
            None => {
                if awake {
                    s.awake.fetch_sub(1, Ordering::SeqCst);
                }
                awake = true;
                let epoch = park(s, seen);
                rested = Instant::now();
                epoch
            }
        };
        if s.stop.load(Ordering::SeqCst) {
            return;
        }
        let own = index % s.cores.min(s.runs.len());
        let until = s.careful_until.load(Ordering::Relaxed);
        if until > 0 && (s.started.elapsed().as_nanos() as u64) < until {
            take_tiles(s, own, Some(rested + STRETCH));
            if rested.elapsed() > STRETCH {
                std::thread::sleep(REST);
                rested = Instant::now();
            }
        } else {
            take_tiles(s, own, None);
        }
        jobs += 1;
        if s.runs.len() > s.cores && jobs % TURN == 0 {
            // The parked one that is woken for the next job may be this one or another.
            s.awake.fetch_sub(1, Ordering::SeqCst);
            awake = false;
        }
    }
}

/// Waits for an epoch other than `seen`; gives up after a while.
fn spin(s: &Shared, seen: u64) -> Option<u64> {
    let started = Instant::now();
    let mut turns = 0u32;
    loop {
        let epoch = s.epoch.load(Ordering::SeqCst);
        if epoch != seen {
            return Some(epoch);
        }
        std::hint::spin_loop();
        turns = turns.wrapping_add(1);
        if turns.is_multiple_of(64) && started.elapsed() > SPIN {
            return None;
        }
    }
}

/// Sleeps until the epoch is another than `seen` and there is room for one more awake thread, which this one then
/// is. Returns the epoch.
fn park(s: &Shared, seen: u64) -> u64 {
    let mut parked = s.parked.lock().unwrap_or_else(|e| e.into_inner());
    loop {
        let epoch = s.epoch.load(Ordering::SeqCst);
        if epoch != seen && (s.awake.load(Ordering::SeqCst) < s.cores || s.stop.load(Ordering::SeqCst)) {
            s.awake.fetch_add(1, Ordering::SeqCst);
            return epoch;
        }
        parked = s.wake.wait(parked).unwrap_or_else(|e| e.into_inner());
    }
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
    fn only_stalls_in_quick_succession_make_workers_careful() {
        let ms = Duration::from_millis;
        let mut stalls = Stalls::default();
        assert_eq!([100, 200, 300, 400].map(|t| stalls.another(ms(t))), [None; 4]);
        assert_eq!(stalls.another(ms(420)), None);
        assert_eq!(stalls.another(ms(440)), Some(ms(440 + 250)));
        // They come again at the end of that: twice as long.
        assert_eq!([ms(695), ms(700)].map(|t| stalls.another(t)), [None; 2]);
        assert_eq!(stalls.another(ms(705)), Some(ms(705 + 500)));
        // Much later: from the beginning.
        assert_eq!([9000, 9004].map(|t| stalls.another(ms(t))), [None; 2]);
        assert_eq!(stalls.another(ms(9008)), Some(ms(9008 + 250)));
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
