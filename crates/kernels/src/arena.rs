//! Memory for what is read from end to end at every step, such as a cache of keys and values.
//!
//! It comes in chunks of two megabytes that the system is asked to back by huge pages: a stream of reads stops at the end of a
//! page until the next one is translated, and pages of four kilobytes end often. On the machine that it was measured on one core
//! read a third to two thirds faster so.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use half::f16;
use memmap2::MmapMut;

use crate::Pool;
use crate::attention::paged::{Q4Tile, Q8Tile};
use crate::disjoint::Disjoint;

/// Bytes of a huge page, and of a chunk that nothing larger is wanted in.
const HUGE: usize = 2 << 20;
/// Where rooms begin: a multiple of a cache line.
const ALIGN: usize = 64;

/// What may lie in an arena.
///
/// # Safety
/// No alignment above 64, no drop, and every pattern of bits that an arena's other tenants leave is a value.
pub unsafe trait Tenant: Copy {}
// SAFETY: numbers, and arrays of numbers.
unsafe impl Tenant for f32 {}
// SAFETY: as above.
unsafe impl Tenant for u8 {}
// SAFETY: as above.
unsafe impl Tenant for f16 {}
// SAFETY: as above.
unsafe impl Tenant for Q8Tile {}
// SAFETY: as above.
unsafe impl Tenant for Q4Tile {}

/// Chunks of memory, shared by all handles and rooms; given back to the system when the last of these goes.
#[derive(Clone, Default)]
pub struct Arena(Arc<Mutex<Chunks>>);

#[derive(Default)]
struct Chunks {
    maps: Vec<MmapMut>,
    /// What is left of the last chunk.
    next: usize,
    end: usize,
    /// Rooms that were given back, by their bytes.
    free: HashMap<usize, Vec<usize>>,
}

impl Chunks {
    fn take(&mut self, bytes: usize) -> usize {
        if let Some(at) = self.free.get_mut(&bytes).and_then(Vec::pop) {
            return at;
        }
        if self.end - self.next < bytes {
            let chunk = bytes.next_multiple_of(HUGE);
            // More than that, since a map may begin anywhere; what is not touched takes no memory.
            let mut map = MmapMut::map_anon(chunk + HUGE).unwrap_or_else(|_| {
                std::alloc::handle_alloc_error(std::alloc::Layout::new::<[u8; HUGE]>());
            });
            let start = map.as_mut_ptr() as usize;
            self.next = start.next_multiple_of(HUGE);
            self.end = self.next + chunk;
            #[cfg(target_os = "linux")]
            // Refused where the system has none: then the pages are small.
            let _ = map.advise_range(memmap2::Advice::HugePage, self.next - start, chunk);
            self.maps.push(map);
        }
        let at = self.next;
        self.next += bytes;
        at
    }
}

impl Arena {
    /// An arena without a chunk.
    pub fn new() -> Arena {
        Arena::default()
    }

    /// Room for `len` items: zeros, or what earlier rooms of this size left.
    pub fn room<T: Tenant>(&self, len: usize) -> Room<T> {
        let bytes = (len * size_of::<T>()).next_multiple_of(ALIGN).max(ALIGN);
        let at = self.0.lock().unwrap_or_else(|e| e.into_inner()).take(bytes);
        let items = NonNull::new(at as *mut T).unwrap_or(NonNull::dangling());
        Room { items, len, bytes, arena: self.clone() }
    }
}

/// Bytes that a thread copies at a time.
const PIECE: usize = 1 << 20;

/// Copies of the slices, one behind the other in one room, each at a multiple of 64; and where they begin. `done` is called
/// with each piece that was copied and the number of its slice.
pub fn gather(pool: &Pool, from: &[&[u8]], done: &(dyn Fn(usize, &[u8]) + Sync)) -> (Room<u8>, Vec<usize>) {
    let mut starts = Vec::with_capacity(from.len());
    let mut pieces = Vec::new();
    let mut end = 0;
    for (number, slice) in from.iter().enumerate() {
        starts.push(end);
        pieces.extend(slice.chunks(PIECE).enumerate().map(|(i, piece)| (number, end + i * PIECE, piece)));
        end = (end + slice.len()).next_multiple_of(ALIGN);
    }
    let mut room = Arena::new().room(end);
    let to = Disjoint::new(&mut room);
    pool.run(pieces.len(), &|i| {
        let (number, at, piece) = pieces[i];
        // SAFETY: slices lie one behind the other, and pieces of one do too.
        unsafe { to.part(at..at + piece.len()) }.copy_from_slice(piece);
        done(number, piece);
    });
    (room, starts)
}

impl std::fmt::Debug for Arena {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let chunks = self.0.lock().unwrap_or_else(|e| e.into_inner());
        write!(f, "Arena({} chunks)", chunks.maps.len())
    }
}

/// Items in an arena; a slice in all respects.
pub struct Room<T: Tenant> {
    items: NonNull<T>,
    len: usize,
    bytes: usize,
    arena: Arena,
}

// SAFETY: a room is the only way to its items.
unsafe impl<T: Tenant + Send> Send for Room<T> {}
// SAFETY: as above.
unsafe impl<T: Tenant + Sync> Sync for Room<T> {}

impl<T: Tenant> Deref for Room<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: the room has the bytes to itself, aligned to 64, in a map that the arena keeps.
        unsafe { std::slice::from_raw_parts(self.items.as_ptr(), self.len) }
    }
}

impl<T: Tenant> DerefMut for Room<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.items.as_ptr(), self.len) }
    }
}

impl<T: Tenant> Clone for Room<T> {
    fn clone(&self) -> Room<T> {
        let mut copy = self.arena.room(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl<T: Tenant> Drop for Room<T> {
    fn drop(&mut self) {
        let mut chunks = self.arena.0.lock().unwrap_or_else(|e| e.into_inner());
        chunks.free.entry(self.bytes).or_default().push(self.items.as_ptr() as usize);
    }
}

impl<T: Tenant> std::fmt::Debug for Room<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Room({} items)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_apart_zero_at_first_and_used_again() {
        let arena = Arena::new();
        let mut rooms: Vec<Room<f32>> = (0..100).map(|i| arena.room(1000 * (i % 3 + 1))).collect();
        assert!(rooms.iter().all(|r| r.iter().all(|&x| x == 0.0) && (r.as_ptr() as usize).is_multiple_of(ALIGN)));
        for (i, room) in rooms.iter_mut().enumerate() {
            room.fill(i as f32);
        }
        assert!(
            rooms.iter().enumerate().all(|(i, r)| r.len() == 1000 * (i % 3 + 1) && r.iter().all(|&x| x == i as f32))
        );
        let copy = rooms[5].clone();
        rooms[5].fill(-1.0);
        assert!(copy.iter().all(|&x| x == 5.0));
        let at = rooms[7].as_ptr();
        rooms.remove(7);
        // Three sizes are about; the one that was given back serves the same size only.
        assert_ne!(arena.room::<f32>(3000).as_ptr(), at);
        assert_eq!(arena.room::<f32>(2000).as_ptr(), at);
    }

    #[test]
    fn gathered_slices_lie_one_behind_the_other() {
        let slices: Vec<Vec<u8>> =
            [0usize, 1, 64, 65, 3 << 20].iter().map(|&n| (0..n).map(|i| (i % 251) as u8).collect()).collect();
        let from: Vec<&[u8]> = slices.iter().map(Vec::as_slice).collect();
        let seen = Mutex::new(vec![0; from.len()]);
        let (room, starts) = gather(&Pool::new(2), &from, &|i, piece| seen.lock().expect("unbroken")[i] += piece.len());
        assert_eq!(seen.into_inner().expect("unbroken"), [0, 1, 64, 65, 3 << 20]);
        assert!(starts.iter().all(|s| s.is_multiple_of(ALIGN)) && starts.is_sorted());
        assert!(slices.iter().zip(starts).all(|(s, at)| room[at..at + s.len()] == s[..]));
    }

    #[test]
    fn a_room_outlives_its_arena_and_may_be_larger_than_a_chunk() {
        let arena = Arena::new();
        let mut large = arena.room::<f16>(3 << 20);
        drop(arena);
        large.fill(f16::ONE);
        assert!(large.iter().all(|&x| x == f16::ONE));
        assert_eq!(large.clone().len(), 3 << 20);
    }
}
