//! Calls into libraries that panic where a file is damaged.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use super::Outcome;

thread_local! {
    /// Whether a panic of this thread will be caught and told as an error, and is not to be printed.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// The Arrow crates check most of what a file says, and panic where they trust it too far: for us both are a damaged file.
pub(super) fn guarded<T>(read: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    static ONCE: Once = Once::new();
    // The hook cannot be set by a thread that panics. Then the panic is caught all the same, but printed.
    if !std::thread::panicking() {
        ONCE.call_once(install);
    }
    let before = QUIET.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(read));
    QUIET.set(before);
    outcome.unwrap_or_else(|_| Err("the file is damaged".into()))
}

/// Puts a hook in front of the one that is there, which sees all panics but the guarded ones.
fn install() {
    let previous = take_hook();
    set_hook(Box::new(move |panic| {
        // A thread that ends may have no flag any more.
        if !QUIET.try_with(Cell::get).unwrap_or(false) {
            previous(panic);
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn only_guarded_panics_are_silent() {
        static SEEN: AtomicUsize = AtomicUsize::new(0);
        fn fail(why: &str) -> Outcome<()> {
            panic!("{why}");
        }
        let previous = take_hook();
        set_hook(Box::new(move |panic| match panic.payload_as_str() {
            Some(why) if why.starts_with("guard: ") => {
                SEEN.fetch_add(1, Ordering::SeqCst);
            }
            _ => previous(panic),
        }));
        // Another test may have called it before the hook above was set.
        install();
        let seen = || SEEN.load(Ordering::SeqCst);
        assert_eq!(guarded(|| fail("guard: inside")), Err("the file is damaged".into()));
        assert_eq!(seen(), 0);
        assert!(catch_unwind(|| fail("guard: outside")).is_err());
        assert_eq!(seen(), 1);
        let other = guarded(|| {
            // A guarded call within one ends only itself.
            assert!(guarded(|| fail("guard: within")).is_err());
            let other = std::thread::spawn(|| fail("guard: another thread"));
            assert!(other.join().is_err());
            fail("guard: after")
        });
        assert!(other.is_err());
        assert_eq!(seen(), 2);
    }
}
