//! Chunks: to and from volume servers, over HTTP.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, RANGE};
use hyper::http::request::Builder;
use hyper::{Method, Request, StatusCode};
use serde::Deserialize;
use tokio::task::spawn_local;
use tokio::time::Instant;

use super::address::ServerAddress;
use super::call::{Attempts, Failure, Kind, Time};
use super::client::Client;
use super::http::{Rope, WORDS_MAX};
use super::peers::{Health, HttpServer};
use super::proto::filer_pb::{
    AssignVolumeRequest, AssignVolumeResponse, FileChunk, LookupVolumeRequest, LookupVolumeResponse,
};
use super::thread::Bridge;
use super::{BridgeError, Placement, Role};

const ASSIGN_VOLUME: &str = "/filer_pb.SeaweedFiler/AssignVolume";
const LOOKUP_VOLUME: &str = "/filer_pb.SeaweedFiler/LookupVolume";
/// How long it is believed where a volume is.
const LOCATIONS_TTL: Duration = Duration::from_secs(60);
/// Places that are assigned at once.
const PLACES_AHEAD: u64 = 16;
const PLACES_TTL: Duration = Duration::from_secs(5);
/// Places that are asked for if they are on servers that do not answer: of two servers, all are on the same
/// one once in 128 times.
const PLACES_TRIED: u32 = 8;
const FOLDERS_MAX: usize = 10_000;
const LOCATIONS_MAX: usize = 10_000;

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
        let bytes = data.iter().map(Bytes::len).sum();
        self.run(
            "UploadChunk",
            bytes,
            async move |client: Rc<Client>, time| {
                client.upload(time, Rope::new(data), &placement).await
            },
        )
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
        self.run("ReadChunk", bytes, async move |client: Rc<Client>, time| {
            client.read(time, &file_id, range).await
        })
        .await
    }

    /// Removes a chunk that no entry has. No error if it is absent.
    pub async fn discard(&self, chunk: &FileChunk) -> Result<(), BridgeError> {
        let Some(file_id) = FileId::of(chunk) else {
            return Ok(());
        };
        self.run("DeleteChunk", 0, async move |client: Rc<Client>, time| {
            client.discard(time, &file_id).await
        })
        .await
    }
}

/// What names a chunk: written `volume,keyCookie` (weed/storage/needle/file_id.go).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId {
    volume: u32,
    key: u64,
    cookie: u32,
}

impl FileId {
    fn of(chunk: &FileChunk) -> Option<FileId> {
        match &chunk.fid {
            Some(fid) => Some(FileId {
                volume: fid.volume_id,
                key: fid.file_key,
                cookie: fid.cookie,
            }),
            None => Self::parse(&chunk.file_id),
        }
    }

    fn parse(text: &str) -> Option<FileId> {
        let (volume, key) = text.split_once(',')?;
        let digits = volume.bytes().all(|b| b.is_ascii_digit());
        let hex = key.bytes().all(|b| b.is_ascii_hexdigit());
        if !digits || !hex || !(9..=24).contains(&key.len()) {
            return None;
        }
        let (key, cookie) = key.split_at(key.len() - 8);
        Some(FileId {
            volume: volume.parse().ok()?,
            key: u64::from_str_radix(key, 16).ok()?,
            cookie: u32::from_str_radix(cookie, 16).ok()?,
        })
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key without the bytes in front that are zero.
        let digits = (self.key.checked_ilog(256).unwrap_or(0) as usize + 1) * 2;
        write!(
            f,
            "{},{:0digits$x}{:08x}",
            self.volume, self.key, self.cookie
        )
    }
}

type Servers = Rc<[Rc<HttpServer>]>;

/// Where volumes are, for a while.
#[derive(Default)]
pub(super) struct Volumes {
    known: RefCell<HashMap<u32, (Instant, Servers)>>,
    /// Those that could not be read last time, and why. Each rests as a server does: one operation tries
    /// for all, and nobody else waits for what is away.
    away: RefCell<HashMap<u32, (Health, String)>>,
}

impl Volumes {
    fn get(&self, volume: u32) -> Option<Servers> {
        let known = self.known.borrow();
        let (at, servers) = known.get(&volume)?;
        (at.elapsed() < LOCATIONS_TTL).then(|| servers.clone())
    }

    fn put(&self, volume: u32, servers: &Servers) {
        let mut known = self.known.borrow_mut();
        if known.len() >= LOCATIONS_MAX {
            known.clear();
        }
        known.insert(volume, (Instant::now(), servers.clone()));
    }

    fn forget(&self, volume: u32) {
        self.known.borrow_mut().remove(&volume);
    }

    /// # Errors
    /// It is away as far as is known. Otherwise [`Volumes::note`] has to be told what comes of it.
    fn admit(&self, volume: u32) -> Result<(), BridgeError> {
        match self.away.borrow().get(&volume) {
            Some((health, reason)) if !health.admits() => Err(BridgeError::Unavailable {
                role: Role::Volume,
                reason: reason.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Takes note of how a read from a volume ended.
    fn note<T>(&self, volume: u32, read: &Result<T, BridgeError>) {
        let mut away = self.away.borrow_mut();
        match read {
            Err(BridgeError::Unavailable {
                role: Role::Volume,
                reason,
            }) => {
                if away.len() >= LOCATIONS_MAX {
                    away.clear();
                }
                let (health, why) = away.entry(volume).or_default();
                health.failed(true);
                why.clone_from(reason);
            }
            // There was nobody to ask.
            Err(BridgeError::Unavailable { .. }) => {
                if let Some((health, _)) = away.get(&volume) {
                    health.failed(true);
                }
            }
            _ => drop(away.remove(&volume)),
        }
    }
}

/// Places for chunks that were assigned with another one, by the folder that they are for: most uploads
/// then need no filer. Keys are not scarce: what is not used soon is dropped.
#[derive(Default)]
pub(super) struct Places {
    ahead: RefCell<HashMap<Placement, Ahead>>,
}

struct Ahead {
    until: Instant,
    next: Assigned,
    left: u64,
}

impl Places {
    fn take(&self, placement: &Placement) -> Option<Assigned> {
        let mut places = self.ahead.borrow_mut();
        let ahead = places.get_mut(&folder_of(placement))?;
        ahead.left = ahead.left.checked_sub(1)?;
        ahead.next.file_id.key = ahead.next.file_id.key.checked_add(1)?;
        (Instant::now() < ahead.until).then(|| ahead.next.clone())
    }

    /// Keeps those behind the first of [`PLACES_AHEAD`]. A token is for one alone.
    fn put(&self, placement: &Placement, first: &Assigned) {
        if !first.auth.is_empty() {
            return;
        }
        let mut places = self.ahead.borrow_mut();
        if places.len() >= FOLDERS_MAX {
            places.clear();
        }
        let ahead = Ahead {
            until: Instant::now() + PLACES_TTL,
            next: first.clone(),
            left: PLACES_AHEAD - 1,
        };
        places.insert(folder_of(placement), ahead);
    }

    /// Its volume may be full, or its server gone.
    fn forget(&self, placement: &Placement) {
        self.ahead.borrow_mut().remove(&folder_of(placement));
    }
}

fn folder_of(placement: &Placement) -> Placement {
    let folder = placement
        .path
        .rsplit_once('/')
        .map_or("", |(folder, _)| folder);
    Placement {
        path: folder.to_owned(),
        ..placement.clone()
    }
}

/// What a volume server says of a chunk that it took.
#[derive(Default, Deserialize)]
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
        let mut attempts = self.attempts(Kind::Read, time);
        loop {
            let assigned = self.place(time, rope.len() as u64, placement).await?;
            let end = time.attempt_end();
            let failure = match self.store(end, &assigned, &rope, placement.fsync).await {
                Ok(chunk) => return Ok(chunk),
                Err(failure) => failure,
            };
            self.places.forget(placement);
            if matches!(failure, Failure::Lost(_)) {
                self.clone().abandon(time, assigned);
            }
            attempts.failed(asked(failure)).await?;
        }
    }

    fn attempts(&self, kind: Kind, time: Time) -> Attempts<'_> {
        Attempts::new(&self.volume_servers.retries, Role::Volume, kind, time)
    }

    /// A place on a server that is well, as far as is known and as there is one: the master assigns those
    /// that stand still, too, for half a minute.
    async fn place(
        &self,
        time: Time,
        size: u64,
        placement: &Placement,
    ) -> Result<Assigned, BridgeError> {
        let mut tries = PLACES_TRIED;
        loop {
            let assigned = match self.places.take(placement) {
                Some(assigned) => assigned,
                None => self.assign(time, size, placement).await?,
            };
            tries -= 1;
            if assigned.server.health.is_up() || tries == 0 {
                return Ok(assigned);
            }
            self.places.forget(placement);
        }
    }

    async fn assign(
        &self,
        time: Time,
        size: u64,
        placement: &Placement,
    ) -> Result<Assigned, BridgeError> {
        let request = AssignVolumeRequest {
            count: PLACES_AHEAD as i32,
            collection: placement.collection.clone(),
            replication: placement.replication.clone(),
            disk_type: placement.disk_type.clone(),
            path: placement.path.clone(),
            // More would count as taken, though perhaps nobody comes.
            expected_data_size: size,
        };
        let check = |answer: &AssignVolumeResponse| match answer.error.is_empty() {
            true => Ok(()),
            false => Err(Failure::Failed(answer.error.clone())),
        };
        let asked = self.ask_filer(Kind::Read, time, ASSIGN_VOLUME, &request, &check);
        let answer: AssignVolumeResponse = asked.await?;
        let address = answer.location.map(|location| location.url);
        let damaged = || BridgeError::Damaged("a filer assigned no valid file id".to_owned());
        let assigned = Assigned {
            file_id: FileId::parse(&answer.file_id).ok_or_else(damaged)?,
            server: address.and_then(|a| self.server(&a)).ok_or_else(damaged)?,
            auth: answer.auth,
        };
        self.places.put(placement, &assigned);
        Ok(assigned)
    }

    async fn store(
        &self,
        end: Instant,
        assigned: &Assigned,
        rope: &Rope,
        fsync: bool,
    ) -> Result<FileChunk, Failure> {
        let query = if fsync { "?fsync=true" } else { "" };
        let request = assigned
            .request(Method::POST, query)
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(rope.clone());
        let said = self
            .http
            .converse(&assigned.server, end, request, WORDS_MAX)
            .await;
        let (status, words) = said?;
        let failed = |what: String| Failure::Failed(format!("{}: {what}", assigned.server.address));
        let said = serde_json::from_slice::<Uploaded>(&words).unwrap_or_default();
        if !said.error.is_empty() {
            return Err(failed(said.error));
        }
        if !status.is_success() {
            return Err(failed(status.to_string()));
        }
        if said.size != rope.len() as u64 || said.etag != rope.etag() {
            return Err(failed("it stored other bytes".to_owned()));
        }
        Ok(FileChunk {
            file_id: assigned.file_id.to_string(),
            size: said.size,
            modified_ts_ns: now_ns(),
            e_tag: said.etag,
            ..Default::default()
        })
    }

    /// Removes, in the background, a chunk that may have been stored though nobody said so.
    fn abandon(self: Rc<Self>, time: Time, assigned: Assigned) {
        spawn_local(async move {
            let request = assigned.request(Method::DELETE, "").body(Rope::default());
            let server = &assigned.server;
            // It costs some space if this fails, and nothing else.
            let _ = self
                .http
                .converse(server, time.deadline, request, WORDS_MAX)
                .await;
        });
    }

    async fn read(
        &self,
        time: Time,
        file_id: &FileId,
        range: Range<u64>,
    ) -> Result<Bytes, BridgeError> {
        self.volumes.admit(file_id.volume)?;
        let read = self.read_in(time, file_id, range).await;
        self.volumes.note(file_id.volume, &read);
        read
    }

    /// Reads within `time`, unless no server has the volume.
    async fn read_in(
        &self,
        time: Time,
        file_id: &FileId,
        range: Range<u64>,
    ) -> Result<Bytes, BridgeError> {
        let mut attempts = self.attempts(Kind::Read, time);
        loop {
            let known = self.volumes.get(file_id.volume);
            let from_memory = known.is_some();
            let servers = match known {
                Some(servers) => servers,
                None => self.locate(time, file_id.volume).await?,
            };
            if servers.is_empty() {
                return Err(BridgeError::Unavailable {
                    role: Role::Volume,
                    reason: format!("no server has volume {}", file_id.volume),
                });
            }
            let failure = match self.read_from(time, &servers, file_id, &range).await {
                Ok(bytes) => return Ok(bytes),
                Err(failure) => failure,
            };
            self.volumes.forget(file_id.volume);
            match failure {
                // It may have moved.
                Failure::Final(BridgeError::NotFound(_)) if from_memory => {}
                failure => attempts.failed(asked(failure)).await?,
            }
        }
    }

    /// Reads from the first that can: the servers that are up, those that are not, and the filers, which
    /// may reach what this machine does not.
    async fn read_from(
        &self,
        time: Time,
        servers: &[Rc<HttpServer>],
        file_id: &FileId,
        range: &Range<u64>,
    ) -> Result<Bytes, Failure> {
        let mut servers = servers.to_vec();
        servers.sort_by_key(|server| !server.health.is_up());
        let mut without = 0;
        let mut last = Failure::Failed(format!("volume {} has no server", file_id.volume));
        for server in &servers {
            let path = format!("/{file_id}");
            match self
                .fetch(time.attempt_end(), server, file_id, &path, range)
                .await
            {
                Ok(bytes) => return Ok(bytes),
                Err(failure) => {
                    without += usize::from(is_not_found(&failure));
                    last = failure;
                }
            }
        }
        if without > 0 && without == servers.len() {
            return Err(last);
        }
        for filer in self
            .filers
            .all()
            .iter()
            .filter(|filer| filer.health.is_up())
        {
            let path = format!("/?proxyChunkId={file_id}");
            let server = HttpServer::new(&filer.address.http());
            if let Ok(bytes) = self
                .fetch(time.attempt_end(), &server, file_id, &path, range)
                .await
            {
                return Ok(bytes);
            }
        }
        // What one server lacks another may have, once it is up.
        Err(match last {
            Failure::Final(BridgeError::NotFound(what)) => Failure::Failed(what),
            last => last,
        })
    }

    /// The servers that have a volume; none: the master knows of none.
    async fn locate(&self, time: Time, volume: u32) -> Result<Servers, BridgeError> {
        let (id, volume) = (volume, volume.to_string());
        let request = LookupVolumeRequest {
            volume_ids: vec![volume.clone()],
        };
        let asked = self.ask_filer(Kind::Read, time, LOOKUP_VOLUME, &request, &|_| Ok(()));
        let mut answer: LookupVolumeResponse = match asked.await {
            Err(BridgeError::NotFound(_)) => LookupVolumeResponse::default(),
            answer => answer?,
        };
        let found = answer.locations_map.remove(&volume).unwrap_or_default();
        let found = found.locations.iter().filter_map(|l| self.server(&l.url));
        let servers: Servers = found.collect();
        if !servers.is_empty() {
            self.volumes.put(id, &servers);
        }
        Ok(servers)
    }

    /// The volume server with an address that somebody told.
    fn server(&self, address: &str) -> Option<Rc<HttpServer>> {
        // It becomes part of a URL.
        let valid = ServerAddress::of_broker(address).is_ok();
        valid.then(|| self.volume_servers.at(address))
    }

    async fn fetch(
        &self,
        end: Instant,
        server: &HttpServer,
        file_id: &FileId,
        path: &str,
        range: &Range<u64>,
    ) -> Result<Bytes, Failure> {
        let wanted = (range.end - range.start) as usize;
        let read = self.security.read.as_ref();
        let auth = read.map_or_else(String::new, |key| key.token(&file_id.to_string()));
        let request = request(Method::GET, server, path, &auth)
            .header(RANGE, format!("bytes={}-{}", range.start, range.end - 1))
            .body(Rope::default());
        let limit = wanted.max(WORDS_MAX);
        let (status, bytes) = self.http.converse(server, end, request, limit).await?;
        let told = format!("{}{path}: {status}", server.address);
        let whole = status == StatusCode::OK && range.start == 0;
        match status {
            StatusCode::NOT_FOUND => Err(Failure::Final(BridgeError::NotFound(told))),
            _ if (status == StatusCode::PARTIAL_CONTENT || whole) && bytes.len() == wanted => {
                Ok(bytes)
            }
            _ if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE => {
                let told = format!("{told}, {} bytes for {wanted}", bytes.len());
                Err(Failure::Final(BridgeError::Damaged(told)))
            }
            _ => Err(Failure::Failed(told)),
        }
    }

    async fn discard(&self, time: Time, file_id: &FileId) -> Result<(), BridgeError> {
        let mut attempts = self.attempts(Kind::Change, time);
        let write = self.security.write.as_ref();
        loop {
            let servers = self.locate(time, file_id.volume).await?;
            // One of them tells the others.
            let Some(server) = servers.first() else {
                return Ok(());
            };
            let path = format!("/{file_id}");
            let auth = write.map_or_else(String::new, |key| key.token(&file_id.to_string()));
            let request = request(Method::DELETE, server, &path, &auth).body(Rope::default());
            let said = self
                .http
                .converse(server, time.attempt_end(), request, WORDS_MAX)
                .await;
            let failure = match said {
                Ok((StatusCode::NOT_FOUND, _)) => return Ok(()),
                Ok((status, _)) if status.is_success() => return Ok(()),
                Ok((status, _)) => Failure::Failed(format!("{}: {status}", server.address)),
                Err(failure) => failure,
            };
            attempts.failed(asked(failure)).await?;
        }
    }
}

/// Nobody rests here while a volume server cannot be reached, so the pause is the attempts'.
fn asked(failure: Failure) -> Failure {
    match failure {
        Failure::NotSent(reason) => Failure::Failed(reason),
        other => other,
    }
}

fn is_not_found(failure: &Failure) -> bool {
    matches!(failure, Failure::Final(BridgeError::NotFound(_)))
}

/// A place for a chunk.
#[derive(Clone)]
struct Assigned {
    file_id: FileId,
    server: Rc<HttpServer>,
    /// Empty if the volume servers ask for none.
    auth: String,
}

impl Assigned {
    fn request(&self, method: Method, query: &str) -> Builder {
        let path = format!("/{}{query}", self.file_id);
        request(method, &self.server, &path, &self.auth)
    }
}

fn request(method: Method, server: &HttpServer, path: &str, auth: &str) -> Builder {
    let uri = format!("http://{}{path}", server.address);
    let request = Request::builder().method(method).uri(uri);
    match auth.is_empty() {
        true => request,
        false => request.header(AUTHORIZATION, format!("Bearer {auth}")),
    }
}

fn now_ns() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
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
        let text = |chunk| FileId::of(&chunk).expect("a file id").to_string();
        assert_eq!(text(chunk(3, 0x01, 0x637037d6)), "3,01637037d6");
        assert_eq!(text(chunk(12, 0x1234, 0x2)), "12,123400000002");
        assert_eq!(text(chunk(1, 0xa00, 0xffffffff)), "1,0a00ffffffff");
        assert_eq!(text(chunk(1, u64::MAX, 1)), "1,ffffffffffffffff00000001");
        for text in [
            "3,01637037d6",
            "12,123400000002",
            "1,ffffffffffffffff00000001",
        ] {
            assert_eq!(FileId::parse(text).expect("a file id").to_string(), text);
        }
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
    }
}
