//! The admin pages, over HTTP: `/metrics` for Prometheus, `/healthz`, `/readyz`, and `/`, which lists
//! them. They are read-only.
//!
//! All of it runs on one thread of its own, with tokio. It reads what shards count while they work;
//! what only a shard knows it asks for by a message, and does not wait long. So it can neither block
//! nor slow a shard.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

pub use self::observed::{NotReady, Observed, Running, SeaweedFs};
use crate::config::HostPort;

mod http;
mod observed;
mod scrape;

#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error(
        "cannot serve the admin pages on {address}: {error}; choose another address with --admin, or --admin off"
    )]
    Bind { address: HostPort, error: io::Error },
    #[error("cannot start the thread of the admin pages: {0}")]
    Thread(io::Error),
}

/// The thread that serves the admin pages, until this is dropped.
#[derive(Debug)]
pub struct AdminPages {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl AdminPages {
    pub fn start(address: &HostPort, observed: Arc<Observed>) -> Result<Self, AdminError> {
        let bind = |error| AdminError::Bind {
            address: address.clone(),
            error,
        };
        let found = address.socket_addrs().map_err(bind)?;
        let listener = TcpListener::bind(&found[..]).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let bound = listener.local_addr().map_err(bind)?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("tidegate-admin".to_owned())
            .spawn(move || http::serve(listener, observed, stopped))
            .map_err(AdminError::Thread)?;
        Ok(AdminPages {
            address: bound,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The address, with the port that it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for AdminPages {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in it is logged already.
            let _ = thread.join();
        }
    }
}
