//! HTTP with volume servers and filers: one request, one answer, both bounded.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout_at};

use super::BridgeError;
use super::call::{Failure, with_sources};
use super::peers::HttpServer;
use crate::metrics::seaweedfs::BridgeMetrics;

/// Of answers that are no chunk: JSON about an upload, or an error's words.
pub(super) const WORDS_MAX: usize = 4 << 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections to volume servers and filers.
pub(super) struct Http {
    client: Client<HttpConnector, Rope>,
    metrics: Arc<BridgeMetrics>,
}

impl Http {
    pub(super) fn new(metrics: Arc<BridgeMetrics>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        Http { client, metrics }
    }

    /// One request and its answer, of at most `limit` bytes, until `end`.
    pub(super) async fn converse(
        &self,
        server: &HttpServer,
        end: Instant,
        request: Result<Request<Rope>, hyper::http::Error>,
        limit: usize,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let request = request.map_err(|error| Failure::NotSent(error.to_string()))?;
        let sent = request.body().len() as u64;
        let told = timeout_at(end, async {
            // It is never closed.
            let _slot = server.slots.acquire().await;
            self.ask(request, limit).await
        });
        let told = told.await;
        let told = told.unwrap_or_else(|_| Err(Failure::Lost("no answer in time".to_owned())));
        match &told {
            Err(Failure::NotSent(_)) => server.health.failed(true),
            Err(Failure::Lost(_)) => server.health.failed(false),
            _ => server.health.answered(),
        }
        if let Ok((_, received)) = &told {
            self.metrics.sent_bytes.add(sent);
            self.metrics.received_bytes.add(received.len() as u64);
        }
        told.map_err(|failure| failure.said_by(&server.address))
    }

    async fn ask(
        &self,
        request: Request<Rope>,
        limit: usize,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let response = self.client.request(request).await.map_err(|error| {
            let reason = with_sources(&error);
            match error.is_connect() {
                true => Failure::NotSent(reason),
                false => Failure::Lost(reason),
            }
        })?;
        let status = response.status();
        match collect(response, limit).await {
            // What an error page says is not needed.
            Err(Failure::Final(_)) if !status.is_success() => Ok((status, Bytes::new())),
            bytes => Ok((status, bytes?)),
        }
    }
}

async fn collect(response: Response<Incoming>, limit: usize) -> Result<Bytes, Failure> {
    let too_long = || {
        let told = format!("an answer of more than {limit} bytes");
        Failure::Final(BridgeError::Damaged(told))
    };
    let expected = response.body().size_hint().lower();
    if expected > limit as u64 {
        return Err(too_long());
    }
    let mut body = Limited::new(response.into_body(), limit);
    let mut bytes = BytesMut::with_capacity(expected as usize);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match error.is::<LengthLimitError>() {
            true => too_long(),
            false => Failure::Lost(with_sources(&*error)),
        })?;
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

/// A body in pieces, sent without being copied together.
#[derive(Debug, Clone, Default)]
pub(super) struct Rope {
    pieces: VecDeque<Bytes>,
    left: usize,
    crc32c: u32,
}

impl Rope {
    pub(super) fn new(pieces: Vec<Bytes>) -> Self {
        Rope {
            left: pieces.iter().map(Bytes::len).sum(),
            crc32c: pieces
                .iter()
                .fold(0, |crc, piece| crc32c::crc32c_append(crc, piece)),
            pieces: pieces
                .into_iter()
                .filter(|piece| !piece.is_empty())
                .collect(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.left
    }

    /// What a volume server calls a needle of these bytes (weed/storage/needle/crc.go).
    pub(super) fn etag(&self) -> String {
        format!("{:08x}", self.crc32c)
    }
}

impl Body for Rope {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.pop_front();
        self.left -= piece.as_ref().map_or(0, Bytes::len);
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rope_knows_its_length_and_its_checksum() {
        let rope = Rope::new(vec![
            Bytes::from_static(b"1234"),
            Bytes::new(),
            "56789".into(),
        ]);
        assert_eq!((rope.left, rope.etag().as_str()), (9, "e3069283"));
        assert_eq!(rope.size_hint().exact(), Some(9));
    }
}
