//! The memory that blobs on their way may take, all of them together.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a permit of the semaphore stands for: it counts in 32 bits.
const UNIT_BYTES: usize = 1 << 10;
/// From here on a buffer is used again: the kernel need not find and clear its pages twice.
const REUSED_BYTES: usize = 1 << 20;

/// Hands out buffers of at most so many bytes altogether. Clones share the bound.
#[derive(Clone)]
pub struct Buffers(Arc<Pool>);

struct Pool {
    units: u32,
    room: Arc<Semaphore>,
    free: Mutex<Free>,
}

/// Large buffers that nobody uses, of `bytes` altogether.
#[derive(Default)]
struct Free {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Buffers {
    pub fn new(bound_bytes: usize) -> Self {
        let units = bound_bytes.div_ceil(UNIT_BYTES).max(1);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        Self(Arc::new(Pool {
            units,
            room: Arc::new(Semaphore::new(units as usize)),
            free: Mutex::default(),
        }))
    }

    /// A buffer of `length` bytes, as soon as there is room. One that is larger than the bound gets
    /// all of it, alone: whoever waits here must not hold another buffer.
    pub async fn take(&self, length: usize) -> Buffer {
        // The semaphore is never closed; if it were, a buffer without a permit would do.
        let permit = Arc::clone(&self.0.room).acquire_many_owned(self.units_of(length));
        self.fill(length, permit.await.ok())
    }

    /// A buffer of `length` bytes, if there is room at once.
    pub fn try_take(&self, length: usize) -> Option<Buffer> {
        let room = Arc::clone(&self.0.room);
        let permit = room.try_acquire_many_owned(self.units_of(length)).ok()?;
        Some(self.fill(length, Some(permit)))
    }

    fn units_of(&self, length: usize) -> u32 {
        let units = u32::try_from(length.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        units.min(self.0.units)
    }

    fn fill(&self, length: usize, permit: Option<OwnedSemaphorePermit>) -> Buffer {
        let mut bytes = self.0.reuse(length);
        bytes.resize(length, 0);
        Buffer {
            bytes,
            pool: Arc::clone(&self.0),
            _permit: permit,
        }
    }
}

impl Pool {
    fn reuse(&self, length: usize) -> Vec<u8> {
        if length < REUSED_BYTES {
            return Vec::new();
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that do not fit go, so that free and used ones together keep to the bound.
        while let Some(buffer) = free.buffers.pop() {
            free.bytes -= buffer.capacity();
            if (length..=2 * length).contains(&buffer.capacity()) {
                return buffer;
            }
        }
        Vec::new()
    }

    fn give_back(&self, bytes: Vec<u8>) {
        let bound = self.units as usize * UNIT_BYTES;
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes.capacity() >= REUSED_BYTES && free.bytes + bytes.capacity() <= bound {
            free.bytes += bytes.capacity();
            free.buffers.push(bytes);
        }
    }
}

/// Bytes to be filled. Its room is free again once it, or what was made of it, is dropped.
pub struct Buffer {
    bytes: Vec<u8>,
    pool: Arc<Pool>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Buffer {
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The same bytes, to be shared. Nothing is copied.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[tokio::test]
    async fn all_buffers_together_keep_to_the_bound() {
        let buffers = Buffers::new(4 * MIB);
        let one = buffers.take(3 * MIB).await;
        assert!(buffers.try_take(2 * MIB).is_none());
        let other = buffers.try_take(MIB).unwrap().freeze();
        assert!(buffers.try_take(1).is_none());
        let view = other.slice(..10);
        drop((one, other));
        assert!(
            buffers.try_take(4 * MIB).is_none(),
            "a part of it is in use"
        );
        drop(view);
        assert!(buffers.try_take(4 * MIB).is_some());
    }

    #[tokio::test]
    async fn one_that_is_larger_than_the_bound_is_alone() {
        let buffers = Buffers::new(MIB);
        let large = buffers.take(5 * MIB).await;
        assert_eq!(large.length(), 5 * MIB);
        assert!(buffers.try_take(1).is_none());
    }

    #[tokio::test]
    async fn a_large_buffer_is_used_again_at_the_length_that_is_wanted() {
        let buffers = Buffers::new(8 * MIB);
        let mut first = buffers.take(2 * MIB).await;
        first.bytes_mut().fill(1);
        let place = first.bytes().as_ptr();
        drop(first);
        let second = buffers.take(2 * MIB - 10).await;
        assert_eq!(second.bytes().as_ptr(), place);
        assert_eq!(second.length(), 2 * MIB - 10);
        drop(second);
        assert_eq!(buffers.take(2 * MIB).await.length(), 2 * MIB);
    }

    #[tokio::test]
    async fn buffers_that_nobody_uses_do_not_add_to_the_bound() {
        let buffers = Buffers::new(4 * MIB);
        drop(buffers.take(3 * MIB).await);
        let other = buffers.take(MIB).await;
        assert_eq!(
            buffers.0.free.lock().unwrap().bytes,
            0,
            "3 MiB do not fit 1"
        );
        drop(other);
    }
}
