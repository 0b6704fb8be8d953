//! The thread, and the queue to it.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::Instant;

use super::call::Time;
use super::client::Client;
use super::{BridgeConfig, BridgeError, PeerHealth, Role};
use crate::metrics::seaweedfs::BridgeMetrics;

/// The semaphore takes no more at once.
const BYTES_MAX: usize = u32::MAX as usize;

type Work = Pin<Box<dyn Future<Output = ()>>>;

enum Message {
    /// Makes, on the bridge's thread, the work that is to be done there.
    Do(Box<dyn FnOnce(Rc<Client>) -> Work + Send>),
    Stop,
}

/// The thread; it ends when this is dropped, and what is under way with it.
#[derive(Debug)]
pub struct BridgeThread {
    queue: UnboundedSender<Message>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for BridgeThread {
    fn drop(&mut self) {
        // It has ended already if nobody takes this.
        let _ = self.queue.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic in it is logged already.
            let _ = thread.join();
        }
    }
}

/// A way to SeaweedFS, for any thread. Clones are the same way.
#[derive(Debug, Clone)]
pub struct Bridge {
    /// Holds no more messages than `calls` admits.
    queue: UnboundedSender<Message>,
    calls: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    calls_max: usize,
    bytes_max: usize,
    deadline: Duration,
    metrics: Arc<BridgeMetrics>,
}

/// What is under way at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlight {
    pub operations: usize,
    pub bytes: usize,
}

/// What an operation occupies, from its call until its answer is taken.
#[derive(Debug)]
struct Held {
    _call: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

impl Bridge {
    /// Starts the thread. It looks for servers by itself; operations wait for them.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn start(config: BridgeConfig) -> io::Result<(BridgeThread, Bridge)> {
        let (queue, messages) = unbounded_channel();
        let bytes_max = config.bytes_max.min(BYTES_MAX);
        let bridge = Bridge {
            queue: queue.clone(),
            calls: Arc::new(Semaphore::new(config.calls_max)),
            bytes: Arc::new(Semaphore::new(bytes_max)),
            calls_max: config.calls_max,
            bytes_max,
            deadline: config.deadline,
            metrics: Arc::default(),
        };
        let metrics = bridge.metrics.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let thread = std::thread::Builder::new()
            .name("tidegate-bridge".to_owned())
            .spawn(move || LocalSet::new().block_on(&runtime, run(config, metrics, messages)))?;
        let thread = Some(thread);
        Ok((BridgeThread { queue, thread }, bridge))
    }

    /// How the servers fare that are known now. Told also while too much is under way.
    pub async fn peers(&self) -> Result<Vec<PeerHealth>, BridgeError> {
        let (reply, answer) = oneshot::channel();
        let make = move |client: Rc<Client>| -> Work {
            // Who asked may be gone.
            let _ = reply.send(client.health());
            Box::pin(std::future::ready(()))
        };
        let sent = self.queue.send(Message::Do(Box::new(make)));
        sent.map_err(|_| BridgeError::Stopped)?;
        answer.await.map_err(|_| BridgeError::Stopped)
    }

    /// Ends all operations, those under way too, with [`BridgeError::Stopped`].
    pub fn stop(&self) {
        // It has ended already if nobody takes this.
        let _ = self.queue.send(Message::Stop);
    }

    /// What was counted so far.
    pub fn metrics(&self) -> &Arc<BridgeMetrics> {
        &self.metrics
    }

    /// What is under way now.
    pub fn in_flight(&self) -> InFlight {
        InFlight {
            operations: self.calls_max - self.calls.available_permits(),
            bytes: self.bytes_max - self.bytes.available_permits(),
        }
    }

    /// The most that may be under way.
    pub fn in_flight_max(&self) -> InFlight {
        InFlight {
            operations: self.calls_max,
            bytes: self.bytes_max,
        }
    }

    /// Does `operation` on the bridge's thread; `name` is what metrics call it. `bytes` is what it
    /// holds in memory, at most.
    pub(super) async fn run<T, F>(
        &self,
        name: &'static str,
        bytes: usize,
        operation: F,
    ) -> Result<T, BridgeError>
    where
        T: Send + 'static,
        F: AsyncFnOnce(Rc<Client>, Time) -> Result<T, BridgeError> + Send + 'static,
    {
        let held = self.admit(bytes)?;
        let began = Instant::now();
        let deadline = began + self.deadline;
        let (reply, answer) = oneshot::channel();
        let make = move |client: Rc<Client>| -> Work {
            Box::pin(async move {
                let time = client.time(deadline);
                let metrics = client.metrics.operation(name);
                let result = operation(client, time).await;
                let kind = result.as_ref().map_or_else(|error| 1 + error.kind(), |_| 0);
                metrics.results[kind].add(1);
                metrics.latency.note_time(began.elapsed());
                // Who asked may be gone.
                let _ = reply.send((result, held));
            })
        };
        let sent = self.queue.send(Message::Do(Box::new(make)));
        sent.map_err(|_| BridgeError::Stopped)?;
        let (result, _held) = answer.await.map_err(|_| BridgeError::Stopped)?;
        result
    }

    fn admit(&self, bytes: usize) -> Result<Held, BridgeError> {
        if bytes > self.bytes_max {
            return Err(BridgeError::Refused {
                role: Role::Filer,
                reason: format!("{bytes} bytes at a time, of at most {}", self.bytes_max),
            });
        }
        let call = self.calls.clone().try_acquire_owned();
        let bytes = self.bytes.clone().try_acquire_many_owned(bytes as u32);
        match (call, bytes) {
            (Ok(_call), Ok(_bytes)) => Ok(Held { _call, _bytes }),
            _ => {
                self.metrics.overloads.add(1);
                Err(BridgeError::Overloaded)
            }
        }
    }
}

async fn run(
    config: BridgeConfig,
    metrics: Arc<BridgeMetrics>,
    mut messages: UnboundedReceiver<Message>,
) {
    let client = Rc::new(Client::new(config, metrics));
    spawn_local(client.clone().keep_finding());
    while let Some(Message::Do(make)) = messages.recv().await {
        spawn_local(make(client.clone()));
    }
}
