//! The wakers of the futures that wait for one thing.

use std::task::Waker;

/// A slab of wakers. A future keeps its key, so that polling it again replaces its waker instead of
/// adding one, and dropping it leaves nothing behind.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    slots: Vec<Slot>,
    free: Vec<usize>,
}

#[derive(Debug)]
enum Slot {
    Free,
    Woken,
    Waiting(Waker),
}

impl Waiters {
    pub(super) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Remembers `waker` under `key`, which is given out on the first call.
    pub(super) fn register(&mut self, key: &mut Option<usize>, waker: &Waker) {
        let key = *key.get_or_insert_with(|| {
            self.free.pop().unwrap_or_else(|| {
                self.slots.push(Slot::Free);
                self.slots.len() - 1
            })
        });
        match &mut self.slots[key] {
            Slot::Waiting(old) => old.clone_from(waker),
            slot => *slot = Slot::Waiting(waker.clone()),
        }
    }

    pub(super) fn remove(&mut self, key: &mut Option<usize>) {
        if let Some(key) = key.take() {
            self.slots[key] = Slot::Free;
            self.free.push(key);
        }
    }

    /// Wakes everyone. Keys stay with their futures until these end.
    pub(super) fn wake_all(&mut self) {
        for slot in &mut self.slots {
            if matches!(slot, Slot::Waiting(_))
                && let Slot::Waiting(waker) = std::mem::replace(slot, Slot::Woken)
            {
                waker.wake();
            }
        }
    }
}
