//! What the runtime adds: a call to another shard and back, and a rope of pieces through a socket.

mod common;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shards::net::{Listener, Stream};
use shards::{Options, Pin, Remote, ReplyTo, Runtime, Service, Shard};

/// A shard that answers with what it was asked, or measures.
struct Bench {
    shard: Shard<Bench>,
    /// To somebody who reads all that comes.
    stream: RefCell<Option<Rc<Stream>>>,
}

enum Request {
    Echo(u64),
    /// So many calls to the other shard, as many at a time.
    Calls {
        times: u64,
        at_once: u64,
        took: mpsc::Sender<Duration>,
    },
    /// The same rope so many times.
    Send {
        rope: Vec<Bytes>,
        times: u64,
        took: mpsc::Sender<Duration>,
    },
}

impl Service for Bench {
    type Request = Request;
    type Reply = u64;

    fn handle(self: &Rc<Self>, request: Request, reply: ReplyTo<u64>) {
        let this = self.clone();
        match request {
            Request::Echo(number) => reply.send(number),
            Request::Calls {
                times,
                at_once,
                took,
            } => self.shard.spawn(async move {
                let began = Instant::now();
                let mut left = times;
                while left > 0 {
                    let now = left.min(at_once);
                    let calls = (0..now).map(|n| this.shard.call(1, Request::Echo(n)));
                    for call in calls.collect::<Vec<_>>() {
                        call.await.expect("a reply");
                    }
                    left -= now;
                }
                took.send(began.elapsed()).expect("who asked waits");
            }),
            Request::Send { rope, times, took } => self.shard.spawn(async move {
                let stream = this.stream.borrow().clone().expect("a connection");
                let began = Instant::now();
                for _ in 0..times {
                    let mut rope = VecDeque::from(rope.clone());
                    stream.send(&mut rope).await.expect("a reader");
                }
                took.send(began.elapsed()).expect("who asked waits");
            }),
        }
    }
}

/// Two shards, and what reaches the first of them.
fn start() -> (Runtime, Remote<Bench>) {
    let (tell, told) = mpsc::channel();
    let options = Options {
        shards: NonZeroUsize::new(2),
        pin: Pin::Off,
        ..Options::default()
    };
    let runtime = shards::start(options, move |shard: Shard<Bench>| {
        let tell = tell.clone();
        async move {
            let bench = Rc::new(Bench {
                shard: shard.clone(),
                stream: RefCell::default(),
            });
            shard.serve(bench.clone());
            if shard.index() == 0 {
                let any = SocketAddr::from(([127, 0, 0, 1], 0));
                let listener = Listener::bind(&shard, any).expect("a free port");
                let address = listener.local_addr();
                std::thread::spawn(move || read_all(address));
                let stream = listener.accept().await.expect("the reader");
                *bench.stream.borrow_mut() = Some(Rc::new(stream));
                tell.send(shard.remote()).expect("who started waits");
            }
            shard.ready();
            shard.stopping().await;
            Ok::<(), Infallible>(())
        }
    });
    let runtime = runtime.expect("the shards start");
    (runtime, told.recv().expect("the first shard"))
}

fn read_all(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).expect("the shard listens");
    let mut room = vec![0; 1 << 20];
    while stream.read(&mut room).is_ok_and(|read| read > 0) {}
}

/// Has the first shard measure.
fn measure(
    remote: &Remote<Bench>,
    request: impl FnOnce(mpsc::Sender<Duration>) -> Request,
) -> Duration {
    let (took, takes) = mpsc::channel();
    let sent = remote.send(0, request(took));
    assert!(sent.is_ok(), "the first shard takes no request");
    takes.recv().expect("the first shard measures")
}

fn calls(c: &mut Criterion) {
    let (runtime, remote) = start();
    let mut group = c.benchmark_group("call");
    for at_once in [1, 8, 64] {
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("at-once", at_once), |b| {
            b.iter_custom(|times| {
                measure(&remote, |took| Request::Calls {
                    times,
                    at_once,
                    took,
                })
            })
        });
    }
    group.finish();
    runtime.stop_and_wait().expect("the shards end well");
}

fn ropes(c: &mut Criterion) {
    let (runtime, remote) = start();
    let mut group = c.benchmark_group("send");
    for (name, pieces, bytes) in [
        ("1x100", 1, 100),
        ("1x1M", 1, 1 << 20),
        ("16x64k", 16, 64 << 10),
        ("1024x1k", 1024, 1 << 10),
    ] {
        let rope = vec![Bytes::from(vec![7; bytes]); pieces];
        group.throughput(Throughput::Bytes((pieces * bytes) as u64));
        group.bench_function(name, |b| {
            b.iter_custom(|times| {
                measure(&remote, |took| Request::Send {
                    rope: rope.clone(),
                    times,
                    took,
                })
            })
        });
    }
    group.finish();
    runtime.stop_and_wait().expect("the shards end well");
}

criterion_group! {
    name = shard;
    config = common::criterion();
    targets = calls, ropes
}
criterion_main!(shard);
