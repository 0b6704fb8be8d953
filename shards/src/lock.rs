//! Taking locks.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock. One that is poisoned is as good as any: it is for whoever holds it not to panic where that
/// would leave what it protects half changed.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
