//! Chunks: to and from volume servers, over HTTP.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, RANGE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout_at};

use super::call::{Attempts, Failure, Kind, Time, with_sources};
use super::client::Client;
use super::proto::filer_pb::{
    AssignVolumeRequest, AssignVolumeResponse, FileChunk, LookupVolumeRequest, LookupVolumeResponse,
};
use super::thread::Bridge;
use super::{BridgeError, Placement, Role};

const ASSIGN_VOLUME: &str = "/filer_pb.SeaweedFiler/AssignVolume";
const LOOKUP_VOLUME: &str = "/filer_pb.SeaweedFiler/LookupVolume";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it is believed where a volume is.
const LOCATIONS_TTL: Duration = Duration::from_secs(60);
const LOCATIONS_MAX: usize = 10_000;
/// Of answers that are no chunk: JSON about an upload, or an error's words.
const WORDS_MAX: usize = 4 << 10;

impl Bridge {
    /// Stores bytes as a new chunk, at offset 0 of a file that is yet to be made. It is as safe as
    /// `placement` says; [`Bridge::discard`] removes it if no entry takes it.
    ///
    /// # Errors
    /// Never [`BridgeError::Unknown`]: a chunk that may be there, but is not told, is nobody's.
    pub async fn upload(
        &self,
        data: Vec<Bytes>,
        placement: Placement,
    ) -> Result<FileChunk, BridgeError> {
        let rope = Rope::new(data);
        self.run(rope.left, async move |client: Rc<Client>, time| {
            client.upload(time, rope, &placement).await
        })
        .await
    }

    /// A part of a chunk; exactly that many bytes.
    ///
    /// # Errors
    /// [`BridgeError::NotFound`] if there is no such chunk, and [`BridgeError::Damaged`] if it is not as
    /// long as the entry says.
    pub async fn read(&self, chunk: &FileChunk, range: Range<u64>) -> Result<Bytes, BridgeError> {
        let refused = |reason: &str| BridgeError::Refused {
            role: Role::Volume,
            reason: reason.to_owned(),
        };
        if !chunk.cipher_key.is_empty() {
            return Err(refused("the chunk is encrypted"));
        }
        if range.start > range.end || range.end > chunk.size {
            return Err(refused("the range is not in the chunk"));
        }
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let file_id = FileId::of(chunk).ok_or_else(|| refused("the chunk has no file id"))?;
        let bytes =
            usize::try_from(range.end - range.start).map_err(|_| BridgeError::Overloaded)?;
        self.run(bytes, async move |client: Rc<Client>, time| {
            client.read(time, &file_id, range).await
        })
        .await
    }

    /// Removes a chunk that no entry has. No error if it is absent.
    pub async fn discard(&self, chunk: &FileChunk) -> Result<(), BridgeError> {
        let Some(file_id) = FileId::of(chunk) else {
            return Ok(());
        };
        self.run(0, async move |client: Rc<Client>, time| {
            client.discard(time, &file_id).await
        })
        .await
    }
}

/// `volume,keyCookie`, as SeaweedFS writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileId {
    text: String,
    volume: String,
}

impl FileId {
    fn of(chunk: &FileChunk) -> Option<FileId> {
        match &chunk.fid {
            // The key without leading zero bytes, then the cookie (weed/storage/needle/file_id.go).
            Some(fid) => {
                let key = format!("{:016x}", fid.file_key);
                let zeros = key
                    .as_bytes()
                    .chunks(2)
                    .take_while(|pair| *pair == b"00")
                    .count();
                let key = &key[2 * zeros..];
                Self::parse(&format!("{},{key}{:08x}", fid.volume_id, fid.cookie))
            }
            None => Self::parse(&chunk.file_id),
        }
    }

    /// It becomes part of a URL, so nothing but a file id may pass.
    fn parse(text: &str) -> Option<FileId> {
        let (volume, key) = text.split_once(',')?;
        let number = !volume.is_empty() && volume.bytes().all(|b| b.is_ascii_digit());
        let hex = key.bytes().all(|b| b.is_ascii_hexdigit() || b == b'_');
        (number && hex && (9..=32).contains(&key.len())).then(|| FileId {
            text: text.to_owned(),
            volume: volume.to_owned(),
        })
    }
}

/// Where volumes are, for a while.
#[derive(Default)]
pub(super) struct Volumes {
    known: RefCell<HashMap<String, (Instant, Rc<[String]>)>>,
}

impl Volumes {
    fn get(&self, volume: &str) -> Option<Rc<[String]>> {
        let known = self.known.borrow();
        let (at, servers) = known.get(volume)?;
        (at.elapsed() < LOCATIONS_TTL).then(|| servers.clone())
    }

    fn put(&self, volume: &str, servers: &Rc<[String]>) {
        let mut known = self.known.borrow_mut();
        if known.len() >= LOCATIONS_MAX {
            known.clear();
        }
        known.insert(volume.to_owned(), (Instant::now(), servers.clone()));
    }

    fn forget(&self, volume: &str) {
        self.known.borrow_mut().remove(volume);
    }
}

/// What a volume server says of a chunk that it took.
#[derive(Deserialize)]
struct Uploaded {
    #[serde(default)]
    size: u64,
    #[serde(default, rename = "eTag")]
    etag: String,
    #[serde(default)]
    error: String,
}

impl Client {
    async fn upload(
        self: &Rc<Self>,
        time: Time,
        rope: Rope,
        placement: &Placement,
    ) -> Result<FileChunk, BridgeError> {
        // Each attempt stores another chunk, so none is in doubt.
        let mut attempts =
            Attempts::new(&self.volume_servers.retries, Role::Volume, Kind::Read, time);
        loop {
            let assigned = self.assign(time, rope.left as u64, placement).await;
            // Whether a volume was assigned in vain is in nobody's interest.
            let assigned = assigned.map_err(nothing_done)?;
            let end = time.attempt_end();
            match self.store(end, &assigned, &rope, placement.fsync).await {
                Ok(chunk) => return Ok(chunk),
                Err(failure) => {
                    if matches!(failure, Failure::Lost(_)) {
                        self.clone().abandon(time, assigned);
                    }
                    attempts.failed(failure).await?;
                }
            }
            if Instant::now() >= time.deadline {
                return Err(attempts.ended());
            }
        }
    }

    async fn assign(
        &self,
        time: Time,
        size: u64,
        placement: &Placement,
    ) -> Result<Assigned, BridgeError> {
        let request = AssignVolumeRequest {
            count: 1,
            collection: placement.collection.clone(),
            replication: placement.replication.clone(),
            path: placement.path.clone(),
            expected_data_size: size,
        };
        let check = |answer: &AssignVolumeResponse| match answer.error.is_empty() {
            true => Ok(()),
            false => Err(Failure::Failed(answer.error.clone())),
        };
        let answer: AssignVolumeResponse = self
            .ask_filer(Kind::Read, time, ASSIGN_VOLUME, &request, &check)
            .await?;
        let file_id = FileId::parse(&answer.file_id);
        let server = answer
            .location
            .map(|l| l.url)
            .filter(|url| is_authority(url));
        let damaged = || BridgeError::Damaged("a filer assigned no valid file id".to_owned());
        Ok(Assigned {
            file_id: file_id.ok_or_else(damaged)?,
            server: server.ok_or_else(damaged)?,
            auth: answer.auth,
        })
    }

    async fn store(
        &self,
        end: Instant,
        assigned: &Assigned,
        rope: &Rope,
        fsync: bool,
    ) -> Result<FileChunk, Failure> {
        let query = if fsync { "?fsync=true" } else { "" };
        let target = format!("{}/{}{query}", assigned.server, assigned.file_id.text);
        let request = request(Method::POST, &target, &assigned.auth)
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(rope.clone());
        let (status, words) = self
            .converse(&assigned.server, end, request, WORDS_MAX)
            .await?;
        let said = serde_json::from_slice::<Uploaded>(&words).ok();
        let refusal = said
            .as_ref()
            .map(|s| s.error.clone())
            .filter(|e| !e.is_empty());
        if let Some(error) = refusal.or_else(|| (!status.is_success()).then(|| status.to_string()))
        {
            return Err(Failure::Failed(format!("{}: {error}", assigned.server)));
        }
        let said = said.filter(|said| said.size == rope.left as u64 && said.etag == rope.etag());
        let Some(said) = said else {
            return Err(Failure::Failed(format!(
                "{}: the bytes that it stored are others",
                assigned.server
            )));
        };
        Ok(FileChunk {
            file_id: assigned.file_id.text.clone(),
            size: said.size,
            modified_ts_ns: now_ns(),
            e_tag: said.etag,
            ..Default::default()
        })
    }

    /// Removes, in the background, a chunk that may have been stored though nobody said so.
    fn abandon(self: Rc<Self>, time: Time, assigned: Assigned) {
        spawn_local(async move {
            let target = format!("{}/{}", assigned.server, assigned.file_id.text);
            let request = request(Method::DELETE, &target, &assigned.auth).body(Rope::default());
            // It costs some space if this fails, and nothing else.
            let _ = self
                .converse(&assigned.server, time.deadline, request, WORDS_MAX)
                .await;
        });
    }

    async fn read(
        &self,
        time: Time,
        file_id: &FileId,
        range: Range<u64>,
    ) -> Result<Bytes, BridgeError> {
        let mut attempts =
            Attempts::new(&self.volume_servers.retries, Role::Volume, Kind::Read, time);
        loop {
            let (targets, mut missing) = (self.targets(time, file_id).await?, false);
            let mut last = Failure::Failed(format!("no server has volume {}", file_id.volume));
            for (server, target) in targets {
                match self
                    .fetch(time.attempt_end(), &server, &target, &range)
                    .await
                {
                    Ok(bytes) => return Ok(bytes),
                    Err(failure) => {
                        missing |= matches!(failure, Failure::Final(BridgeError::NotFound(_)));
                        last = failure;
                    }
                }
            }
            self.volumes.forget(&file_id.volume);
            if missing {
                return Err(BridgeError::NotFound(format!("chunk {}", file_id.text)));
            }
            if let Failure::NotSent(reason) = last {
                last = Failure::Lost(reason);
            }
            attempts.failed(last).await?;
        }
    }

    /// Where to read a chunk, the best first: the volume servers that are up, then those that are not;
    /// filers, which may reach what this machine does not, last.
    async fn targets(
        &self,
        time: Time,
        file_id: &FileId,
    ) -> Result<Vec<(String, String)>, BridgeError> {
        let servers = match self.volumes.get(&file_id.volume) {
            Some(servers) => servers,
            None => self.locate(time, &file_id.volume).await?,
        };
        let mut servers = servers.to_vec();
        servers.sort_by_key(|server| !self.volume_servers.of(server).is_up());
        let direct = servers.into_iter().map(|server| {
            let target = format!("{server}/{}", file_id.text);
            (server, target)
        });
        let filers = self.filers.all();
        let through = filers
            .iter()
            .filter(|filer| filer.health.is_up())
            .map(|filer| {
                let server = filer.address.http();
                let target = format!("{server}/?proxyChunkId={}", file_id.text);
                (server, target)
            });
        Ok(direct.chain(through).collect())
    }

    async fn locate(&self, time: Time, volume: &str) -> Result<Rc<[String]>, BridgeError> {
        let request = LookupVolumeRequest {
            volume_ids: vec![volume.to_owned()],
        };
        let answer: Result<LookupVolumeResponse, _> = self
            .ask_filer(Kind::Read, time, LOOKUP_VOLUME, &request, &|_| Ok(()))
            .await;
        let mut locations = answer?.locations_map;
        let found = locations.remove(volume).unwrap_or_default().locations;
        let found = found
            .into_iter()
            .map(|l| l.url)
            .filter(|url| is_authority(url));
        let servers: Rc<[String]> = found.collect();
        if !servers.is_empty() {
            self.volumes.put(volume, &servers);
        }
        Ok(servers)
    }

    async fn fetch(
        &self,
        end: Instant,
        server: &str,
        target: &str,
        range: &Range<u64>,
    ) -> Result<Bytes, Failure> {
        let wanted = (range.end - range.start) as usize;
        let request = request(Method::GET, target, "")
            .header(RANGE, format!("bytes={}-{}", range.start, range.end - 1))
            .body(Rope::default());
        let limit = wanted.max(WORDS_MAX);
        let (status, bytes) = self.converse(server, end, request, limit).await?;
        let whole = status == StatusCode::OK && range.start == 0;
        match status {
            StatusCode::NOT_FOUND => Err(Failure::Final(BridgeError::NotFound(target.to_owned()))),
            _ if (status == StatusCode::PARTIAL_CONTENT || whole) && bytes.len() == wanted => {
                Ok(bytes)
            }
            _ if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE => {
                let got = format!("{server}: {} bytes for {wanted}, {status}", bytes.len());
                Err(Failure::Final(BridgeError::Damaged(got)))
            }
            _ => Err(Failure::Failed(format!("{server}: {status}"))),
        }
    }

    async fn discard(&self, time: Time, file_id: &FileId) -> Result<(), BridgeError> {
        let mut attempts = Attempts::new(
            &self.volume_servers.retries,
            Role::Volume,
            Kind::Change,
            time,
        );
        loop {
            let servers = self.locate(time, &file_id.volume).await?;
            // One of them tells the others.
            let Some(server) = servers.first() else {
                return Ok(());
            };
            let target = format!("{server}/{}", file_id.text);
            let request = request(Method::DELETE, &target, "").body(Rope::default());
            let done = self
                .converse(server, time.attempt_end(), request, WORDS_MAX)
                .await;
            let failure = match done {
                Ok((StatusCode::NOT_FOUND, _)) => return Ok(()),
                Ok((status, _)) if status.is_success() => return Ok(()),
                Ok((status, _)) => Failure::Failed(format!("{server}: {status}")),
                Err(Failure::NotSent(reason)) => Failure::Lost(reason),
                Err(failure) => failure,
            };
            attempts.failed(failure).await?;
        }
    }

    /// One request and its answer of at most `limit` bytes.
    async fn converse(
        &self,
        server: &str,
        end: Instant,
        request: Result<Request<Rope>, hyper::http::Error>,
        limit: usize,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let request = request.map_err(|error| Failure::NotSent(error.to_string()))?;
        let health = self.volume_servers.of(server);
        let told = timeout_at(end, self.http.converse(request, limit)).await;
        let told = told.unwrap_or_else(|_| Err(Failure::Lost("no answer in time".to_owned())));
        match &told {
            Err(Failure::NotSent(_)) => health.failed(true),
            Err(Failure::Lost(_)) => health.failed(false),
            _ => health.answered(),
        }
        told.map_err(|failure| match failure {
            Failure::NotSent(reason) => Failure::NotSent(format!("{server}: {reason}")),
            Failure::Lost(reason) => Failure::Lost(format!("{server}: {reason}")),
            other => other,
        })
    }
}

/// A place for a chunk.
struct Assigned {
    file_id: FileId,
    server: String,
    /// Empty if the volume servers ask for none.
    auth: String,
}

fn request(method: Method, target: &str, auth: &str) -> hyper::http::request::Builder {
    let request = Request::builder()
        .method(method)
        .uri(format!("http://{target}"));
    match auth.is_empty() {
        true => request,
        false => request.header(AUTHORIZATION, format!("Bearer {auth}")),
    }
}

/// A change that nobody can see counts as none.
fn nothing_done(error: BridgeError) -> BridgeError {
    match error {
        BridgeError::Unknown { role, reason } => BridgeError::Unavailable { role, reason },
        other => other,
    }
}

/// `host:port` and nothing else, as it becomes part of a URL.
fn is_authority(text: &str) -> bool {
    super::ServerAddress::of_broker(text).is_ok()
}

fn now_ns() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Connections to volume servers and filers.
pub(super) struct Http {
    client: HttpClient<HttpConnector, Rope>,
}

impl Http {
    pub(super) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = HttpClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        Http { client }
    }

    async fn converse(
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
        Ok((status, collect(response, limit).await?))
    }
}

async fn collect(response: Response<Incoming>, limit: usize) -> Result<Bytes, Failure> {
    let expected = response.body().size_hint().lower();
    let too_long = || BridgeError::Damaged(format!("an answer of more than {limit} bytes"));
    if expected > limit as u64 {
        return Err(Failure::Final(too_long()));
    }
    let mut body = Limited::new(response.into_body(), limit);
    let mut bytes = BytesMut::with_capacity(expected as usize);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::Lost(with_sources(&*error)))?;
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

/// A body in pieces, sent without being copied together.
#[derive(Debug, Clone, Default)]
struct Rope {
    pieces: VecDeque<Bytes>,
    left: usize,
    crc32c: u32,
}

impl Rope {
    fn new(pieces: Vec<Bytes>) -> Self {
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

    /// What a volume server calls a needle of these bytes (weed/storage/needle/crc.go).
    fn etag(&self) -> String {
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
    use crate::bridge::proto::filer_pb::FileId as Fid;

    #[test]
    fn file_ids_are_written_as_seaweedfs_does() {
        let chunk = |volume_id, file_key, cookie| FileChunk {
            fid: Some(Fid {
                volume_id,
                file_key,
                cookie,
            }),
            ..Default::default()
        };
        let text = |chunk| FileId::of(&chunk).expect("a file id").text;
        assert_eq!(text(chunk(3, 0x01, 0x637037d6)), "3,01637037d6");
        assert_eq!(text(chunk(12, 0x1234, 0x2)), "12,123400000002");
        assert_eq!(text(chunk(1, 0xa00, 0xffffffff)), "1,0a00ffffffff");
    }

    #[test]
    fn what_is_no_file_id_gets_into_no_url() {
        for text in [
            "",
            "3",
            "3,",
            "a,01637037d6",
            "3,x1637037d6",
            "3,01637037d6/..",
            "3,01?a=b",
        ] {
            assert_eq!(FileId::parse(text), None, "{text}");
        }
        assert!(!is_authority("a:1/x") && !is_authority("a@b:1") && is_authority("a:8080"));
    }

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
