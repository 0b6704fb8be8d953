//! Makes operations on files fail, in tests: seeded, for the thread that asks for it. In the program
//! nothing here does anything.

/// What may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Open,
    Make,
    /// Writing past the page cache: what fails is done without.
    Direct,
    Read,
    Write,
    SetLen,
    Allocate,
    Sync,
    Rename,
    Remove,
}

#[cfg(not(test))]
pub(crate) use none::{Faults, meet, short_write};
#[cfg(test)]
pub(crate) use planned::{Faults, begin, end, fail_all, meet, short_write};

#[cfg(not(test))]
mod none {
    use std::io;

    use super::Op;

    pub(crate) struct Faults;

    impl Faults {
        pub(crate) fn of_this_thread() -> Self {
            Faults
        }

        pub(crate) fn adopt(&self) {}
    }

    #[inline(always)]
    pub(crate) fn meet(_: Op) -> io::Result<()> {
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn short_write(_: Op, _: usize) -> Option<usize> {
        None
    }
}

#[cfg(test)]
mod planned {
    use std::cell::RefCell;
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::Op;

    thread_local! {
        static PLAN: RefCell<Option<Arc<Mutex<Plan>>>> = const { RefCell::new(None) };
    }

    struct Plan {
        seed: u64,
        /// One operation in so many fails.
        one_in: u64,
        /// These fail for this many times more.
        down: Option<(Op, u64)>,
    }

    impl Plan {
        /// Splitmix64.
        fn draw(&mut self, below: u64) -> u64 {
            self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.seed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) % below
        }

        fn fails(&mut self, op: Op) -> bool {
            if let Some((down, times)) = &mut self.down
                && *down == op
                && *times > 0
            {
                *times = times.saturating_sub(1);
                return true;
            }
            if self.draw(self.one_in) != 0 {
                return false;
            }
            // Once, or for a while, as when the disk is full.
            let times = self.draw(12).saturating_sub(6);
            self.down = Some((op, times));
            true
        }
    }

    /// The plan of a thread, for others that work for it.
    pub(crate) struct Faults(Option<Arc<Mutex<Plan>>>);

    impl Faults {
        pub(crate) fn of_this_thread() -> Self {
            Faults(PLAN.with_borrow(Clone::clone))
        }

        pub(crate) fn adopt(&self) {
            PLAN.set(self.0.clone());
        }
    }

    /// From now on one operation in `one_in` fails.
    pub(crate) fn begin(seed: u64, one_in: u64) {
        let down = None;
        let plan = Plan { seed, one_in, down };
        PLAN.set(Some(Arc::new(Mutex::new(plan))));
    }

    /// From now on all operations of this kind fail, and no others.
    pub(crate) fn fail_all(op: Op) {
        let plan = Plan {
            seed: 0,
            one_in: u64::MAX,
            down: Some((op, u64::MAX)),
        };
        PLAN.set(Some(Arc::new(Mutex::new(plan))));
    }

    /// Nothing fails any more.
    pub(crate) fn end() {
        PLAN.set(None);
    }

    fn with_plan<T>(ask: impl FnOnce(&mut Plan) -> T) -> Option<T> {
        let plan = PLAN.with_borrow(Clone::clone)?;
        let mut plan = shards::lock(&plan);
        Some(ask(&mut plan))
    }

    pub(crate) fn meet(op: Op) -> io::Result<()> {
        match with_plan(|plan| plan.fails(op)) {
            Some(true) => Err(io::Error::other(format!("{op:?} is made to fail"))),
            _ => Ok(()),
        }
    }

    /// How much of a write is made before it fails, if it is to fail.
    pub(crate) fn short_write(op: Op, len: usize) -> Option<usize> {
        with_plan(|plan| {
            let fails = plan.fails(op);
            fails.then(|| plan.draw(len as u64 + 1) as usize)
        })
        .flatten()
    }
}
