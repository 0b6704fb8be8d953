//! One client's connection: frames in, answers out in the order of the requests.
//!
//! Two tasks on the same shard. The reader cuts frames out of what arrives and hands each to
//! [`api::dispatch`]; the writer sends answers, many with one call where they are ready together.
//! Between them lies a queue that is bounded by requests and by bytes: when it is full the reader
//! stops, and TCP slows the client. So it does while the shard's request memory is used up.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::net::Shutdown;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use shards::local::{Latch, Notify};
use shards::log_limited;
use shards::net::Stream;

use crate::api::{self, Answer, Client, Taken};
use crate::budget::{Budget, Share};
use crate::config::Config;
use crate::gateway::Gateway;
use crate::metrics::{Closed, ShardMetrics};

/// Free room that a read is given at least.
const READ_BYTES_MIN: usize = 4 << 10;
/// Grown to this while reads fill their room.
const READ_BYTES_MAX: usize = 64 << 10;
/// A frame from this size on is read into a buffer of its own, so that what is kept of it keeps
/// nothing else alive.
const OWN_BUFFER_BYTES: usize = 16 << 10;
/// Memory taken at once for a frame whose bytes have not arrived yet.
const FRAME_STEP_BYTES: usize = 1 << 20;
const LENGTH_PREFIX: usize = 4;
/// Answers that are ready are sent together up to this many bytes.
const SEND_TOGETHER_BYTES: usize = 256 << 10;

/// Limits of one connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub request_bytes: usize,
    pub requests_in_flight: usize,
    pub bytes_in_flight: usize,
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Self {
        Limits {
            request_bytes: config.socket_request_max_bytes,
            requests_in_flight: config.queued_max_requests,
            bytes_in_flight: config.connection_max_inflight_bytes,
        }
    }
}

/// A connection from its accept to its end.
pub struct Connection {
    stream: Stream,
    gateway: Rc<Gateway>,
    client: Client,
    limits: Limits,
    queue: RefCell<Queue>,
    /// An answer was put into the queue, or the reader ended.
    filled: Notify,
    /// An answer left the queue, or the writer ended.
    drained: Notify,
    closed: Latch,
    /// The first reason that there was to end it.
    ended: Cell<Option<Closed>>,
    last_active: Cell<Instant>,
    /// Since when the client has let a frame arrive or an answer wait for which memory is held.
    receiving_since: Cell<Option<Instant>>,
    sending_since: Cell<Option<Instant>>,
}

#[derive(Default)]
struct Queue {
    answers: VecDeque<Queued>,
    /// Of the requests whose answers wait, that being written included.
    requests: usize,
    bytes: usize,
    closed: bool,
}

impl Queue {
    fn sent(&mut self, frames: &Outgoing) {
        self.requests -= frames.requests;
        self.bytes -= frames.request_bytes;
    }

    /// Takes no more. What is given back must be dropped where no borrow is held.
    fn give_up(&mut self) -> VecDeque<Queued> {
        self.closed = true;
        std::mem::take(&mut self.answers)
    }
}

struct Queued {
    answer: Answer,
    request: InFlight,
}

/// A request that is not answered yet.
struct InFlight {
    /// The API's place in the registry.
    api: usize,
    arrived: Instant,
    bytes: usize,
    /// Its memory.
    share: Share,
}

impl Connection {
    pub fn new(stream: Stream, gateway: Rc<Gateway>) -> Rc<Self> {
        let limits = Limits::from(gateway.config());
        let client = Client {
            peer: stream.peer_addr(),
        };
        gateway.metrics().accepted.add(1);
        gateway.metrics().connections.add(1);
        Rc::new(Connection {
            stream,
            gateway,
            client,
            limits,
            queue: RefCell::default(),
            filled: Notify::new(),
            drained: Notify::new(),
            closed: Latch::new(),
            ended: Cell::new(None),
            last_active: Cell::new(Instant::now()),
            receiving_since: Cell::new(None),
            sending_since: Cell::new(None),
        })
    }

    /// How long the client has done nothing; none of the time in which it awaited an answer.
    pub fn idle_for(&self) -> Duration {
        match (self.queue.borrow().requests, self.sending_since.get()) {
            (0, _) => self.last_active.get().elapsed(),
            (_, Some(since)) => since.elapsed(),
            (_, None) => Duration::ZERO,
        }
    }

    /// How long the client has kept memory in use that others might need: by a frame that does not
    /// arrive in full, by answers that it does not take.
    pub fn stalls_for(&self) -> Duration {
        let stalls = [&self.receiving_since, &self.sending_since].into_iter();
        let longest = stalls.filter_map(Cell::get).map(|since| since.elapsed());
        longest.max().unwrap_or_default()
    }

    /// Ends the connection; answers that are ready may still be lost.
    pub fn close(&self, why: Closed) {
        self.ends(why);
        self.closed.set();
        self.end(Shutdown::Both);
    }

    /// No more requests are taken; what was taken is answered.
    pub fn stop_reading(&self) {
        self.ends(Closed::Stop);
        self.end(Shutdown::Read);
    }

    fn ends(&self, why: Closed) {
        self.ended.set(self.ended.get().or(Some(why)));
    }

    /// The peer may have ended it before.
    fn end(&self, how: Shutdown) {
        let _ = self.stream.shutdown(how);
    }

    /// Serves the client until either side ends it.
    pub async fn serve(self: Rc<Self>) {
        let writer = self.clone();
        let written = Latch::new();
        let done = written.clone();
        self.gateway.shard().spawn(async move {
            // Set by a panic too.
            let _done = OnDrop(|| done.set());
            writer.write().await;
            writer.end(Shutdown::Both);
        });
        {
            // The writer must learn of the end if a handler panics, too.
            let _end = OnDrop(|| {
                self.queue.borrow_mut().closed = true;
                self.filled.notify_waiters();
            });
            if let Some(reason) = self.read().await {
                self.ends(Closed::BadRequest);
                log_limited!(warn, peer = %self.client.peer, "closing the connection; see what client sends this: {reason}");
            }
        }
        written.wait().await;
        self.ends(Closed::Client);
    }

    /// Takes requests until the client ends or breaks the rules; gives what it did wrong.
    async fn read(&self) -> Option<String> {
        let mut frames = Frames::new(self.limits.request_bytes);
        let memory = self.gateway.request_memory();
        let mut share = memory.large.share();
        let mut arrived = Instant::now();
        loop {
            loop {
                match frames.next() {
                    Ok(Some(frame)) => {
                        self.receiving_since.set(None);
                        let share = match share.bytes() {
                            0 => memory.small.share(),
                            _ => std::mem::replace(&mut share, memory.large.share()),
                        };
                        if let Some(reason) = self.take(frame, share, arrived).await {
                            return reason;
                        }
                    }
                    Ok(None) => break,
                    Err(reason) => return Some(reason),
                }
            }
            let wanted = frames.memory_wanted();
            if wanted > share.bytes() {
                if !self.grow(&mut share, wanted).await {
                    return None;
                }
                self.receiving_since.set(Some(Instant::now()));
            }
            match self.receive(&mut frames).await {
                Ok(0) | Err(_) => return None,
                Ok(n) => {
                    frames.received(n);
                    self.gateway.metrics().bytes_in.add(n as u64);
                }
            }
            arrived = Instant::now();
            self.last_active.set(arrived);
        }
    }

    /// Receives what comes next. A client that sent much at once may now be silent for long: it keeps no
    /// large buffer meanwhile.
    async fn receive(&self, frames: &mut Frames) -> std::io::Result<usize> {
        if frames.may_rest() {
            let mut received = pin!(self.stream.recv(frames.room()));
            let at_once = poll_fn(|cx| Poll::Ready(received.as_mut().poll(cx))).await;
            if let Poll::Ready(received) = at_once {
                return received;
            }
        }
        if frames.may_rest() {
            frames.rest();
            self.stream.readable().await;
        }
        self.stream.recv(frames.room()).await
    }

    /// `false`: the connection was closed meanwhile.
    async fn grow(&self, share: &mut Share, bytes: usize) -> bool {
        let mut grown = pin!(share.grow_to(bytes));
        let mut closed = pin!(self.closed.wait());
        poll_fn(|cx| match closed.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(false),
            Poll::Pending => grown.as_mut().poll(cx).map(|()| true),
        })
        .await
    }

    /// Takes one request up. `Some` ends the connection, with what is to be said of it.
    async fn take(
        &self,
        frame: Bytes,
        mut share: Share,
        arrived: Instant,
    ) -> Option<Option<String>> {
        while !self.has_room() {
            if self.queue.borrow().closed {
                return Some(None);
            }
            self.drained.notified().await;
        }
        let request_bytes = frame.len();
        if !self.grow(&mut share, request_bytes).await {
            return Some(None);
        }
        let Taken { api, mut answer } = match api::dispatch(&self.gateway, self.client, frame) {
            Ok(taken) => taken,
            Err(refusal) => return Some(Some(refusal.to_string())),
        };
        while let Answer::First(work) = answer {
            answer = work.await;
        }
        match answer {
            Answer::Silence => None,
            Answer::Close(reason) => Some(Some(reason)),
            answer => {
                let mut queue = self.queue.borrow_mut();
                queue.requests += 1;
                queue.bytes += request_bytes;
                let request = InFlight {
                    api,
                    arrived,
                    bytes: request_bytes,
                    share,
                };
                queue.answers.push_back(Queued { answer, request });
                drop(queue);
                self.gateway.metrics().in_flight.add(1);
                self.filled.notify_waiters();
                None
            }
        }
    }

    /// A single request larger than the limit gets through when nothing else is in flight.
    fn has_room(&self) -> bool {
        let queue = self.queue.borrow();
        queue.requests < self.limits.requests_in_flight && queue.bytes < self.limits.bytes_in_flight
    }

    /// Sends answers until the reader has ended and all are sent, or the client takes no more.
    async fn write(&self) {
        while let Some(mut frames) = self.next_answers().await {
            self.sending_since.set(Some(frames.began));
            let sent = self.stream.send(&mut frames.pieces).await;
            self.sending_since.set(None);
            self.last_active.set(Instant::now());
            self.queue.borrow_mut().sent(&frames);
            let metrics = self.gateway.metrics();
            metrics.in_flight.sub(frames.requests as u64);
            if sent.is_ok() {
                metrics.bytes_out.add(frames.bytes as u64);
            } else {
                let rest = self.queue.borrow_mut().give_up();
                drop(rest);
                self.drained.notify_waiters();
                return;
            }
            self.drained.notify_waiters();
        }
    }

    /// The next answer, with those behind it that are ready too.
    async fn next_answers(&self) -> Option<Outgoing> {
        let first = loop {
            let first = self.queue.borrow_mut().answers.pop_front();
            if let Some(first) = first {
                break first;
            }
            if self.queue.borrow().closed {
                return None;
            }
            self.filled.notified().await;
        };
        let frame = match first.answer {
            Answer::Later(frame) => frame.await,
            Answer::Frame(frame) => frame,
            // `take` queues nothing else.
            Answer::Silence | Answer::Close(_) | Answer::First(_) => Vec::new(),
        };
        let metrics = self.gateway.metrics();
        let mut outgoing = Outgoing::new(self.gateway.answer_memory());
        outgoing.add(frame, first.request, metrics);
        while outgoing.bytes < SEND_TOGETHER_BYTES
            && let Some((frame, request)) = self.next_if_ready().await
        {
            outgoing.add(frame, request, metrics);
        }
        Some(outgoing)
    }

    /// The next answer, if it need not be waited for. One commit makes those of many requests ready.
    async fn next_if_ready(&self) -> Option<(Vec<Bytes>, InFlight)> {
        let Queued {
            mut answer,
            request,
        } = self.queue.borrow_mut().answers.pop_front()?;
        let polled = poll_fn(|cx| {
            Poll::Ready(match &mut answer {
                Answer::Later(frame) => frame.as_mut().poll(cx),
                Answer::Frame(frame) => Poll::Ready(std::mem::take(frame)),
                // `take` queues nothing else.
                Answer::Silence | Answer::Close(_) | Answer::First(_) => Poll::Ready(Vec::new()),
            })
        });
        if let Poll::Ready(frame) = polled.await {
            return Some((frame, request));
        }
        let mut queue = self.queue.borrow_mut();
        queue.answers.push_front(Queued { answer, request });
        None
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let metrics = self.gateway.metrics();
        // Whatever ends a connection says so, but for a panic.
        let why = self.ended.get().unwrap_or(Closed::Failed);
        metrics.closed[why as usize].add(1);
        metrics.connections.sub(1);
        metrics.in_flight.sub(self.queue.borrow().requests as u64);
    }
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Frames that are sent with one call.
struct Outgoing {
    /// When they were ready.
    began: Instant,
    pieces: VecDeque<Bytes>,
    bytes: usize,
    requests: usize,
    request_bytes: usize,
    /// The memory of the frames.
    share: Share,
}

impl Outgoing {
    fn new(memory: &Rc<Budget>) -> Self {
        Outgoing {
            began: Instant::now(),
            pieces: VecDeque::new(),
            bytes: 0,
            requests: 0,
            request_bytes: 0,
            share: memory.share(),
        }
    }

    /// The request's own memory is free once it is answered, even if its client does not take the answer.
    fn add(&mut self, frame: Vec<Bytes>, request: InFlight, metrics: &ShardMetrics) {
        // What is not to be answered (acks=0) ends without a frame.
        if !frame.is_empty() {
            let took = self.began.saturating_duration_since(request.arrived);
            metrics.apis[request.api].latency.note_time(took);
        }
        drop(request.share);
        self.bytes += frame.iter().map(Bytes::len).sum::<usize>();
        self.pieces.extend(frame);
        self.requests += 1;
        self.request_bytes += request.bytes;
        self.share.overdraw_to(self.bytes);
    }
}

/// Cuts a stream of bytes into frames.
struct Frames {
    buf: BytesMut,
    frame_bytes_max: usize,
    /// Of the frame that is being read, once known; its length prefix is cut off already.
    frame: Option<usize>,
    read_bytes: usize,
}

impl Frames {
    fn new(frame_bytes_max: usize) -> Self {
        Frames {
            buf: BytesMut::new(),
            frame_bytes_max,
            frame: None,
            read_bytes: READ_BYTES_MIN,
        }
    }

    /// Where the next bytes are to be put, behind what is there.
    fn room(&mut self) -> &mut BytesMut {
        let missing = self.frame.map_or(0, |len| len - self.buf.len());
        match self.frame {
            Some(len) if len >= OWN_BUFFER_BYTES => {
                if self.needs_own_buffer(len) {
                    let mut own = BytesMut::with_capacity(self.memory_wanted());
                    own.extend_from_slice(&self.buf);
                    self.buf = own;
                }
            }
            _ => {
                if self.buf.capacity() - self.buf.len() < missing.max(READ_BYTES_MIN) {
                    self.buf.reserve(missing.max(self.read_bytes));
                }
            }
        }
        &mut self.buf
    }

    /// The size of the buffer that the next read of a large frame needs. It grows with what really
    /// arrives, not with what was announced. 0: the frame is small.
    fn memory_wanted(&self) -> usize {
        match self.frame {
            Some(len) if len >= OWN_BUFFER_BYTES && self.needs_own_buffer(len) => {
                len.min(self.buf.len() + self.buf.len().max(FRAME_STEP_BYTES))
            }
            Some(len) if len >= OWN_BUFFER_BYTES => self.buf.capacity(),
            _ => 0,
        }
    }

    /// Between two frames, with more memory than the next one is likely to need.
    fn may_rest(&self) -> bool {
        self.frame.is_none() && self.buf.is_empty() && self.read_bytes > READ_BYTES_MIN
    }

    fn rest(&mut self) {
        self.buf = BytesMut::new();
        self.read_bytes = READ_BYTES_MIN;
    }

    fn needs_own_buffer(&self, len: usize) -> bool {
        let capacity = self.buf.capacity();
        let is_own = capacity <= len && capacity >= len.min(FRAME_STEP_BYTES);
        self.buf.len() == capacity || !is_own
    }

    fn received(&mut self, n: usize) {
        if n >= self.read_bytes {
            self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
        }
    }

    /// The next whole frame, without its length; `None` if more bytes are needed.
    fn next(&mut self) -> Result<Option<Bytes>, String> {
        let len = match self.frame {
            Some(len) => len,
            None if self.buf.len() < LENGTH_PREFIX => return Ok(None),
            None => {
                let len = self.buf.get_i32();
                let valid = usize::try_from(len)
                    .ok()
                    .filter(|len| (1..=self.frame_bytes_max).contains(len));
                valid.ok_or_else(|| {
                    format!(
                        "a frame of {len} bytes; allowed are 1 to {}",
                        self.frame_bytes_max
                    )
                })?
            }
        };
        if self.buf.len() < len {
            self.frame = Some(len);
            return Ok(None);
        }
        self.frame = None;
        let frame = self.buf.split_to(len).freeze();
        if len >= OWN_BUFFER_BYTES {
            // The next one is likely as large: what of it is read with its length has to be moved.
            self.read_bytes = READ_BYTES_MIN;
            if self.buf.is_empty() {
                self.buf = BytesMut::new();
            }
        }
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(frames: &mut Frames, mut bytes: &[u8], step: usize) -> Result<Vec<Bytes>, String> {
        let mut out = Vec::new();
        while !bytes.is_empty() {
            let room = frames.room();
            let n = step.min(bytes.len()).min(room.capacity() - room.len());
            assert!(n > 0, "there must be room to read into");
            room.extend_from_slice(&bytes[..n]);
            frames.received(n);
            bytes = &bytes[n..];
            while let Some(frame) = frames.next()? {
                out.push(frame);
            }
        }
        Ok(out)
    }

    #[test]
    fn frames_come_out_whole_however_the_bytes_arrive() {
        let sizes = [1, 5, 4096, 70_000, 3, 16 << 10, 3 << 20, 9];
        let mut stream = Vec::new();
        for (n, size) in sizes.iter().enumerate() {
            stream.extend_from_slice(&(*size as i32).to_be_bytes());
            stream.extend(std::iter::repeat_n(n as u8, *size));
        }
        for step in [1 << 10, 7_777, 1 << 20] {
            let frames = feed(&mut Frames::new(4 << 20), &stream, step).unwrap();
            assert_eq!(frames.len(), sizes.len());
            for (n, frame) in frames.iter().enumerate() {
                assert_eq!(frame.len(), sizes[n]);
                assert!(frame.iter().all(|b| *b == n as u8));
            }
        }
    }

    #[test]
    fn lengths_outside_the_limits_are_refused() {
        for len in [0, -1, i32::MIN, 1001, i32::MAX] {
            assert!(
                feed(&mut Frames::new(1000), &len.to_be_bytes(), 4).is_err(),
                "{len}"
            );
        }
    }

    #[test]
    fn an_announced_frame_takes_no_memory_before_it_arrives() {
        let mut frames = Frames::new(100 << 20);
        feed(&mut frames, &(100_i32 << 20).to_be_bytes(), 4).unwrap();
        assert!(frames.room().capacity() <= 2 * FRAME_STEP_BYTES);
    }
}
