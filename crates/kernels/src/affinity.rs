//! Which cores this process may run on, and staying on one of them. Measurements need it, for a neighbour that keeps
//! a known core busy; the [pool](crate::pool) pins nobody.

/// The cores that the calling thread may run on, ascending; empty where the system does not tell.
pub fn allowed_cores() -> Vec<usize> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: a `cpu_set_t` is a plain bit field, of which all zeros is the empty one.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: the call writes at most the given size to the set, which outlives it.
        let failed = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) };
        if failed == 0 {
            // SAFETY: every index is below the number of bits of the set.
            return (0..libc::CPU_SETSIZE as usize).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect();
        }
    }
    Vec::new()
}

/// Keeps the calling thread, and those that it starts from now on, on one core.
///
/// # Errors
/// There is no such core, it is not allowed, or the system knows no pinning.
pub fn stay_on(core: usize) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        if core >= libc::CPU_SETSIZE as usize {
            return Err(std::io::Error::from(std::io::ErrorKind::InvalidInput));
        }
        // SAFETY: as above; the core is below the number of bits of the set.
        let set = unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(core, &mut set);
            set
        };
        // SAFETY: the set outlives the call, which only reads it.
        match unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = core;
        Err(std::io::Error::from(std::io::ErrorKind::Unsupported))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_stays_where_it_was_put() {
        let cores = allowed_cores();
        // What the system says in words.
        let status = std::fs::read_to_string("/proc/thread-self/status").expect("the thread's status");
        let told = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).expect("its cores").trim();
        let spelled: Vec<usize> = told
            .split(',')
            .flat_map(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                first.parse::<usize>().expect("a core")..=last.parse::<usize>().expect("a core")
            })
            .collect();
        assert_eq!(cores, spelled);
        // Threads of their own, so that the other tests stay free.
        for core in cores {
            std::thread::spawn(move || {
                stay_on(core).expect("an allowed core");
                assert_eq!(allowed_cores(), [core]);
            })
            .join()
            .expect("a pinned thread");
        }
        assert!(stay_on(1 << 20).is_err());
    }
}
