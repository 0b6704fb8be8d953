//! One connection to a broker. It never blocks by itself: its thread waits for it, and for others.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};
use tidegate::wire::frame::{RequestHeader, ResponseHeader, encode_request};
use tidegate::wire::{ErrorCode, Message, Reader, StrBytes, api_name, api_versions};

use super::Error;

const CLIENT_ID: StrBytes = StrBytes::from_static("tidegate-loadgen");
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Answers that are larger are no answers.
const MAX_FRAME_BYTES: usize = 512 << 20;
/// Room for what small answers need; a larger one gets what its length says.
const READ_BYTES: usize = 16 << 10;
/// Pieces of requests that go to the kernel at once.
const MAX_PIECES: usize = 64;

/// A connection that keeps the order of its requests.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    address: String,
    versions: Vec<api_versions::ApiVersion>,
    correlation_id: i32,
    /// What the kernel has not taken yet.
    unsent: VecDeque<Bytes>,
    received: Vec<u8>,
}

impl Connection {
    /// Connects, from this address of this machine, or from any. Before anything else is sent,
    /// [`Connection::ask_versions`] has to be done.
    ///
    /// # Errors
    /// If nobody is there, or this machine has no port left.
    pub fn dial(address: &str, from: Option<IpAddr>, timeout: Duration) -> Result<Self, Error> {
        let failed = |source| Error::Connect {
            address: address.to_owned(),
            source,
        };
        let timeout = timeout.min(CONNECT_TIMEOUT);
        Ok(Self {
            stream: connect(address, from, timeout).map_err(failed)?,
            address: address.to_owned(),
            versions: Vec::new(),
            correlation_id: 0,
            unsent: VecDeque::new(),
            received: Vec::new(),
        })
    }

    /// Asks what the broker serves.
    ///
    /// # Errors
    /// If it is no broker.
    pub fn ask_versions(&mut self, timeout: Duration) -> Result<(), Error> {
        // Version 0 is the one that every broker has.
        let request = api_versions::Request::default();
        let response: api_versions::Response =
            self.call_version(api_versions::KEY, 0, &request, timeout)?;
        if response.error_code != ErrorCode::NONE {
            return Err(Error::refused("ApiVersions", response.error_code, None));
        }
        self.versions = response.api_keys;
        Ok(())
    }

    /// Gives back what memory an idle connection can do without. What the broker serves has to be asked
    /// again.
    pub fn rest(&mut self) {
        self.versions = Vec::new();
        self.received = Vec::new();
    }

    /// Where this leads to.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The highest version of an API up to `highest` that the broker serves as well.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if there is none.
    pub fn version(&self, api_key: i16, lowest: i16, highest: i16) -> Result<i16, Error> {
        let served = self.versions.iter().find(|api| api.api_key == api_key);
        let common = served.and_then(|api| {
            let version = highest.min(api.max_version);
            (version >= lowest.max(api.min_version)).then_some(version)
        });
        common.ok_or_else(|| Error::Unsupported {
            address: self.address.clone(),
            api: name_of(api_key),
        })
    }

    /// Queues a request, and sends what the kernel takes of it.
    ///
    /// # Errors
    /// If the connection broke.
    pub fn send<M: Message>(
        &mut self,
        api_key: i16,
        api_version: i16,
        request: &M,
    ) -> Result<i32, Error> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let header = RequestHeader {
            api_key,
            api_version,
            correlation_id: self.correlation_id,
            client_id: Some(CLIENT_ID),
        };
        self.unsent.extend(encode_request(&header, request));
        self.flush()?;
        Ok(self.correlation_id)
    }

    /// Sends what the kernel takes.
    ///
    /// # Errors
    /// If the connection broke.
    pub fn flush(&mut self) -> Result<(), Error> {
        while !self.unsent.is_empty() {
            let pieces: Vec<IoSlice> = self
                .unsent
                .iter()
                .take(MAX_PIECES)
                .map(|piece| IoSlice::new(piece))
                .collect();
            match (&self.stream).write_vectored(&pieces) {
                Ok(0) => return Err(self.closed()),
                Ok(sent) => self.forget(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broke(error)),
            }
        }
        Ok(())
    }

    fn forget(&mut self, mut sent: usize) {
        while let Some(piece) = self.unsent.front_mut() {
            if sent < piece.len() {
                piece.advance(sent);
                return;
            }
            sent -= piece.len();
            self.unsent.pop_front();
        }
    }

    /// The next answer, without its length, if all of it is there.
    ///
    /// # Errors
    /// If the connection broke, or what comes is no answer.
    pub fn receive(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let frame_len = self.frame_len()?;
            if let Some(len) = frame_len
                && self.received.len() >= len
            {
                return Ok(Some(self.take_frame(len)));
            }
            let wanted = frame_len.unwrap_or(0).max(READ_BYTES);
            self.received.reserve(wanted - self.received.len());
            let room = rustix::buffer::spare_capacity(&mut self.received);
            match rustix::io::read(&self.stream, room) {
                Ok(0) => return Err(self.closed()),
                Ok(_) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.broke(error.into())),
            }
        }
    }

    /// Bytes of the frame that comes, with its length; nothing while that is not all there.
    fn frame_len(&self) -> Result<Option<usize>, Error> {
        let Some(prefix) = self.received.first_chunk() else {
            return Ok(None);
        };
        match usize::try_from(i32::from_be_bytes(*prefix)) {
            Ok(len) if len <= MAX_FRAME_BYTES => Ok(Some(len + prefix.len())),
            _ => Err(self.unexpected("a frame of an impossible length".to_owned())),
        }
    }

    fn take_frame(&mut self, len: usize) -> Bytes {
        // Behind a large frame there is nothing yet, as a rule: this copies small answers only.
        let rest = self.received.split_off(len);
        let frame = std::mem::replace(&mut self.received, rest);
        Bytes::from(frame).slice(size_of::<i32>()..)
    }

    /// Reads an answer to the request that was sent with this correlation id.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode<M: Message>(
        &self,
        frame: Bytes,
        api_key: i16,
        api_version: i16,
        correlation_id: i32,
    ) -> Result<M, Error> {
        let decode = |source| Error::Decode {
            address: self.address.clone(),
            api: name_of(api_key),
            source,
        };
        let mut reader = Reader::new(frame);
        let header = ResponseHeader::decode(&mut reader, api_key, api_version).map_err(decode)?;
        if header.correlation_id != correlation_id {
            let got = header.correlation_id;
            return Err(self.unexpected(format!("answer {got} instead of {correlation_id}")));
        }
        let response = M::decode(&mut reader, api_version).map_err(decode)?;
        reader.finish().map_err(decode)?;
        Ok(response)
    }

    /// Sends a request in the highest common version, and waits for the answer. No other request may
    /// be waiting for its own.
    ///
    /// # Errors
    /// Whatever goes wrong on the way; what the answer says is not looked at.
    pub fn call<Q: Message, A: Message>(
        &mut self,
        (api_key, lowest, highest): (i16, i16, i16),
        request: &Q,
        timeout: Duration,
    ) -> Result<A, Error> {
        let version = self.version(api_key, lowest, highest)?;
        self.call_version(api_key, version, request, timeout)
    }

    fn call_version<Q: Message, A: Message>(
        &mut self,
        api_key: i16,
        api_version: i16,
        request: &Q,
        timeout: Duration,
    ) -> Result<A, Error> {
        let deadline = Instant::now() + timeout;
        let correlation_id = self.send(api_key, api_version, request)?;
        loop {
            if let Some(frame) = self.receive()? {
                return self.decode(frame, api_key, api_version, correlation_id);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.no_answer(api_key, timeout));
            }
            wait([&*self], left);
            self.flush()?;
        }
    }

    /// Whether the kernel has yet to take a part of what was sent.
    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Waits until the broker has come to what is sent now: behind all requests before.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn ping(&mut self, timeout: Duration) -> Result<(), Error> {
        let request = api_versions::Request::default();
        let answer: Result<api_versions::Response, Error> =
            self.call_version(api_versions::KEY, 0, &request, timeout);
        answer.map(drop)
    }

    /// The broker did not answer in time.
    pub fn no_answer(&self, api_key: i16, after: Duration) -> Error {
        Error::NoAnswer {
            address: self.address.clone(),
            api: name_of(api_key),
            after,
        }
    }

    /// The broker sent what makes no sense.
    pub fn unexpected(&self, what: String) -> Error {
        Error::Unexpected {
            address: self.address.clone(),
            what,
        }
    }

    fn closed(&self) -> Error {
        Error::Closed {
            address: self.address.clone(),
        }
    }

    fn broke(&self, source: io::Error) -> Error {
        Error::Broke {
            address: self.address.clone(),
            source,
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn name_of(api_key: i16) -> &'static str {
    api_name(api_key).unwrap_or("a request")
}

fn connect(address: &str, from: Option<IpAddr>, timeout: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name has no address");
    for resolved in address.to_socket_addrs()? {
        match connect_to(resolved, from, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn connect_to(to: SocketAddr, from: Option<IpAddr>, timeout: Duration) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    if let Some(from) = from {
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    socket.connect_timeout(&to.into(), timeout)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Sleeps until one of the connections has an answer or takes more of a request, or `timeout` is over.
pub fn wait<'a>(connections: impl IntoIterator<Item = &'a Connection>, timeout: Duration) {
    let mut fds: Vec<PollFd> = connections
        .into_iter()
        .map(|connection| {
            let flags = match connection.has_unsent() {
                true => PollFlags::IN | PollFlags::OUT,
                false => PollFlags::IN,
            };
            PollFd::new(connection, flags)
        })
        .collect();
    let timeout = Timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // A signal, or a fault of a connection: its owner finds out when it uses it.
    let _ = poll(&mut fds, Some(&timeout));
}
