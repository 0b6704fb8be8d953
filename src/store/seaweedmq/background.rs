//! A few threads for what nobody waits for.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use shards::lock;

const THREADS: usize = 2;
const QUEUE: usize = 64;

type Job = Box<dyn FnOnce() + Send>;

/// The threads end when this is dropped, and what they have begun.
pub(super) struct Background {
    queue: SyncSender<Job>,
}

impl Background {
    pub fn start() -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel(QUEUE);
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..THREADS {
            let jobs = jobs.clone();
            std::thread::Builder::new()
                .name("seaweedmq".to_owned())
                .spawn(move || work(&jobs))?;
        }
        Ok(Background { queue })
    }

    /// False if there is too much to do already.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) -> bool {
        self.queue.try_send(Box::new(job)).is_ok()
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let next = lock(jobs).recv();
        let Ok(job) = next else { return };
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).is_err() {
            tracing::error!("work in the background of the SeaweedMQ store ended in a panic");
        }
    }
}
