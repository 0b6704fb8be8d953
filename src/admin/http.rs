//! The HTTP server of the admin pages, with limits for everything.

use std::convert::Infallible;
use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use shards::log_limited;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::Observed;
use super::scrape::Scraper;
use crate::metrics::text::Page;

/// Connections at a time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 32;
/// Of the request line and the headers.
const HEADER_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Of a connection, which is for one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to let a shortage of descriptors pass.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";
const INDEX: &str = "\
Tidegate

/metrics   metrics, in the text format of Prometheus
/healthz   200: the process runs
/readyz    200: every shard serves and can store; 503 with the reason if not

Now:
";

type Answer = Response<Full<Bytes>>;

/// Serves until the other side of `stopped` is gone.
pub(super) fn serve(
    listener: TcpListener,
    observed: Arc<Observed>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build();
    let served = runtime.and_then(|runtime| {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let pages = Arc::new(Pages {
                scraper: Scraper::new(observed.clone()),
                observed,
            });
            until(stopped, accept(listener, pages)).await;
            Ok(())
        })
    });
    if let Err(error) = served {
        tracing::error!(%error, "the admin pages are not served; restart the process, or choose --admin off");
    }
}

/// Runs `work`, which does not end by itself, until `stopped`.
async fn until(stopped: oneshot::Receiver<()>, work: impl Future<Output = Infallible>) {
    let mut stopped = std::pin::pin!(stopped);
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|cx| {
        let _: std::task::Poll<Infallible> = work.as_mut().poll(cx);
        stopped.as_mut().poll(cx).map(drop)
    })
    .await;
}

async fn accept(listener: tokio::net::TcpListener, pages: Arc<Pages>) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(converse(stream, pages.clone()));
            }
            Err(error) => {
                log_limited!(warn, %error, "cannot accept connections for the admin pages, trying again; raise the limit of open files (LimitNOFILE, ulimit -n)");
                tokio::time::sleep(SHORTAGE_PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, pages: Arc<Pages>) {
    let service = service_fn(move |request| {
        let pages = pages.clone();
        async move { Ok::<_, Infallible>(pages.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // Who breaks the connection, or HTTP, has nothing to be told.
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
}

struct Pages {
    observed: Arc<Observed>,
    scraper: Scraper,
}

impl Pages {
    /// Whether the gateway is ready, or why not, and how its store is.
    async fn state(&self) -> (StatusCode, String) {
        let (ready, store) = self.observed.state().await;
        match ready {
            Ok(()) => (StatusCode::OK, format!("ok\n{store}")),
            Err(reason) => (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{reason}\n{store}"),
            ),
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let mut answer = text(
                StatusCode::METHOD_NOT_ALLOWED,
                "these pages are read-only\n",
            );
            answer
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match request.uri().path() {
            "/" => {
                let (_, state) = self.state().await;
                text(StatusCode::OK, format!("{INDEX}{state}"))
            }
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => {
                let (status, state) = self.state().await;
                text(status, state)
            }
            "/metrics" => page(
                StatusCode::OK,
                Page::CONTENT_TYPE,
                self.scraper.scrape().await,
            ),
            _ => text(StatusCode::NOT_FOUND, "no such page; / lists them\n"),
        }
    }
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    page(status, TEXT, text)
}

fn page(status: StatusCode, content_type: &'static str, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
