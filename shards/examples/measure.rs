//! Prints what the runtime costs on this machine: `cargo run --release -p shards --example measure [row...]`.
//!
//! Rows: call, pipeline, mesh, remote, blocking, echo, floor, turn, idle. Without names: all.

#![allow(clippy::print_stdout)]

use bytes::BytesMut;
use glommio::channels::channel_mesh::MeshBuilder;
use glommio::{CpuSet, LocalExecutorPoolBuilder, PoolPlacement};
use shards::local::Notify;
use shards::net::Listener;
use shards::{Options, Pin, ReplyTo, Runtime, SendError, Service, Shard};
use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Answers each number with itself.
struct Mirror {
    seen: Cell<u64>,
    total: Arc<AtomicU64>,
}

impl Service for Mirror {
    type Request = u64;
    type Reply = u64;

    fn handle(self: &Rc<Self>, request: u64, reply: ReplyTo<u64>) {
        self.seen.set(self.seen.get() + 1);
        self.total.store(self.seen.get(), Ordering::Relaxed);
        reply.send(request);
    }
}

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let rows: [(&str, fn()); 9] = [
        ("call", call),
        ("pipeline", pipeline),
        ("mesh", mesh),
        ("remote", remote),
        ("blocking", blocking),
        ("echo", echo),
        ("floor", floor),
        ("turn", turn),
        ("idle", idle),
    ];
    for (name, row) in rows {
        if asked.is_empty() || asked.iter().any(|asked| asked == name) {
            row();
        }
    }
}

fn options(pin: Pin) -> Options {
    Options {
        shards: NonZeroUsize::new(2),
        pin,
        ..Options::default()
    }
}

/// Runs `on_first` on the first of two shards, and stops.
fn on_two<F, Fut>(pin: Pin, on_first: F)
where
    F: Fn(Shard<Mirror>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let runtime = start(pin, Arc::default(), on_first);
    runtime.wait().expect("the shards end well");
}

fn start<F, Fut>(pin: Pin, total: Arc<AtomicU64>, on_first: F) -> Runtime
where
    F: Fn(Shard<Mirror>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + 'static,
{
    shards::start(options(pin), move |shard: Shard<Mirror>| {
        let (on_first, total) = (on_first.clone(), total.clone());
        async move {
            shard.serve(Rc::new(Mirror {
                seen: Cell::new(0),
                total,
            }));
            shard.ready();
            if shard.index() == 0 {
                on_first(shard.clone()).await;
                shard.stop();
            }
            shard.stopping().await;
            Ok::<(), Infallible>(())
        }
    })
    .expect("the shards start")
}

fn print_times(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: f64| times[(times.len() as f64 * part) as usize].as_nanos() as f64 / 1000.0;
    println!(
        "{what}: p50 {:.1} us, p99 {:.1} us, p99.9 {:.1} us",
        at(0.5),
        at(0.99),
        at(0.999)
    );
}

fn call() {
    for (pin, how) in [(Pin::Off, "not pinned"), (Pin::On, "pinned")] {
        for (gap, when) in [(300, "idle, a call each 0.3 ms"), (0, "back to back")] {
            on_two(pin, move |shard| async move {
                let mut times = Vec::new();
                for n in 0..20_000 {
                    if gap > 0 {
                        shards::sleep(Duration::from_micros(gap)).await;
                    }
                    let start = Instant::now();
                    shard.call(1, n).await.expect("a reply");
                    times.push(start.elapsed());
                    if times.len() == 5000 && gap > 0 {
                        break;
                    }
                }
                print_times(&format!("call round trip, {how}, {when}"), times);
            });
        }
    }
}

fn pipeline() {
    for depth in [1, 8, 64, 512] {
        on_two(Pin::Off, move |shard| async move {
            let end = Instant::now() + Duration::from_secs(1);
            let done = Rc::new(Cell::new(0u64));
            let all = Notify::new();
            let running = Rc::new(Cell::new(depth));
            let cpu = cpu_time();
            for _ in 0..depth {
                let (caller, done, all, running) =
                    (shard.clone(), done.clone(), all.clone(), running.clone());
                shard.spawn(async move {
                    while Instant::now() < end {
                        caller.call(1, 0).await.expect("a reply");
                        done.set(done.get() + 1);
                    }
                    running.set(running.get() - 1);
                    all.notify_waiters();
                });
            }
            while running.get() > 0 {
                all.notified().await;
            }
            let each = (cpu_time() - cpu).as_nanos() / u128::from(done.get());
            println!(
                "calls, {depth} in flight: {} per second, {each} ns CPU each",
                done.get()
            );
        });
    }
}

/// glommio's own channels between executors, for comparison.
fn mesh() {
    for depth in [1, 8, 64, 512] {
        let mesh = MeshBuilder::full(2, 4096);
        let cpus = CpuSet::online().ok();
        let handles = LocalExecutorPoolBuilder::new(PoolPlacement::MaxSpread(2, cpus))
            .on_all_shards(move || async move {
                let (senders, mut receivers) = mesh.join().await.expect("a mesh");
                let own = senders.peer_id();
                let (_, receiver) = receivers.streams().pop().expect("a peer");
                let peer = 1 - own;
                let end = Instant::now() + Duration::from_secs(1);
                if own == 1 {
                    while let Some(n) = receiver.recv().await {
                        if n == u64::MAX || senders.send_to(peer, n).await.is_err() {
                            break;
                        }
                    }
                    return;
                }
                let mut done = 0u64;
                for n in 0..depth {
                    senders.send_to(peer, n).await.expect("room");
                }
                while Instant::now() < end {
                    let n = receiver.recv().await.expect("a reply");
                    done += 1;
                    senders.send_to(peer, n).await.expect("room");
                }
                println!("glommio mesh, {depth} in flight: {done} per second (pinned)");
                senders.send_to(peer, u64::MAX).await.expect("room");
            })
            .expect("executors");
        handles.join_all();
    }
}

fn remote() {
    let total = Arc::new(AtomicU64::new(0));
    let (handle, wait) = mpsc::channel();
    let runtime = start(Pin::Off, total.clone(), move |shard| {
        let handle = handle.clone();
        async move {
            handle.send(shard.remote()).expect("a receiver");
            shard.stopping().await;
        }
    });
    let remote = wait.recv().expect("a handle");
    let start = Instant::now();
    let (mut sent, mut full) = (0u64, 0u64);
    while start.elapsed() < Duration::from_secs(1) {
        match remote.send(1, 0) {
            Ok(()) => sent += 1,
            Err(SendError::Full(_)) => full += 1,
            Err(SendError::Stopped(_)) => break,
        }
    }
    println!("messages from another thread: {sent} per second, mailbox found full {full} times");
    runtime.stop_and_wait().expect("the shards end well");
}

fn blocking() {
    on_two(Pin::Off, |shard| async move {
        let mut times = Vec::new();
        for _ in 0..5000 {
            shards::sleep(Duration::from_micros(300)).await;
            let start = Instant::now();
            shard.blocking(|| ()).await.expect("no panic");
            times.push(start.elapsed());
        }
        print_times("blocking work, round trip", times);
        let worker = shard.serial_worker("serial");
        let mut times = Vec::new();
        for _ in 0..20_000 {
            let start = Instant::now();
            worker.run(|| ()).await.expect("no panic");
            times.push(start.elapsed());
        }
        print_times("serial worker, round trip, back to back", times);
    });
}

fn turn() {
    on_two(Pin::Off, |_| async move {
        let start = Instant::now();
        for _ in 0..100_000 {
            shards::turn().await;
        }
        println!("turn: {} ns", start.elapsed().as_nanos() / 100_000);
    });
}

fn idle() {
    let runtime = start(Pin::Off, Arc::default(), |shard| async move {
        shard.stopping().await
    });
    std::thread::sleep(Duration::from_secs(1));
    let (before, cpu) = (runtime.stats(), cpu_time());
    std::thread::sleep(Duration::from_secs(10));
    let cpu = cpu_time() - cpu;
    let after = runtime.stats();
    let rounds: u64 =
        after.iter().map(|s| s.rounds).sum::<u64>() - before.iter().map(|s| s.rounds).sum::<u64>();
    println!(
        "two idle shards and the watchdog: {:.3} % of a CPU, {} rounds per second and shard",
        cpu.as_secs_f64() * 10.0,
        rounds as f64 / 20.0
    );
    runtime.stop_and_wait().expect("the shards end well");
}

fn echo() {
    echo_rows("echo", start_echo);
}

/// The same by a blocking thread for each connection: what cannot be left out.
fn floor() {
    echo_rows("blocking echo", |address| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        address
            .send(listener.local_addr().expect("bound"))
            .expect("a receiver");
        let serve = move || {
            for stream in listener.incoming().flatten() {
                let name = "shard-floor".to_owned();
                let _ = std::thread::Builder::new()
                    .name(name)
                    .spawn(|| blocking_echo(stream));
            }
        };
        std::thread::spawn(serve);
        start(Pin::Off, Arc::default(), |shard| async move {
            shard.stopping().await
        })
    });
}

fn blocking_echo(mut stream: TcpStream) {
    let mut buffer = vec![0; 128 << 10];
    let _ = stream.set_nodelay(true);
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // A thread that has ended tells its CPU time no more.
    std::thread::sleep(Duration::from_secs(30));
}

fn echo_rows(what: &str, start_server: fn(mpsc::Sender<SocketAddr>) -> Runtime) {
    // Connections, bytes, pause between two rounds.
    let closed = Duration::ZERO;
    let rows = [
        (1, 1000, Duration::from_micros(1000)),
        (1, 1000, Duration::from_micros(200)),
        (1, 1000, closed),
        (16, 1000, closed),
        (64, 1000, closed),
        (256, 1000, closed),
        (16, 100_000, closed),
    ];
    for (connections, size, pause) in rows {
        let (address, addresses) = mpsc::channel();
        let runtime = start_server(address);
        let address = addresses.recv().expect("an address");
        let clients = connections.min(2);
        let threads: Vec<_> = (0..clients)
            .map(|_| {
                let client = move || echo_client(address, connections / clients, size, pause);
                std::thread::spawn(client)
            })
            .collect();
        let (server, start) = (shard_cpu(), Instant::now());
        let mut times = Vec::new();
        for thread in threads {
            times.extend(thread.join().expect("a client"));
        }
        let cpu = shard_cpu().saturating_sub(server).as_secs_f64() / times.len() as f64;
        let rate = times.len() as f64 / start.elapsed().as_secs_f64();
        let stats = runtime.stats();
        let rounds: u64 = stats.iter().map(|stats| stats.rounds).sum();
        let stalls: u64 = stats.iter().map(|stats| stats.stalls).sum();
        let what = format!(
            "{what}, {connections} connections, {size} bytes: {rate:.0} per second, {:.1} us of server \
             CPU and {:.2} rounds each, {stalls} stalls",
            cpu * 1e6,
            rounds as f64 / times.len() as f64
        );
        print_times(&what, times);
        runtime.stop_and_wait().expect("the shards end well");
    }
}

/// CPU time of the shards' threads so far.
fn shard_cpu() -> Duration {
    let mut total = 0;
    for task in std::fs::read_dir("/proc/self/task")
        .expect("/proc")
        .flatten()
    {
        let read = |file| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        if read("comm").starts_with("shard-") {
            let on_cpu = read("schedstat");
            total += on_cpu
                .split(' ')
                .next()
                .and_then(|n| n.parse::<u64>().ok())
                .unwrap_or(0);
        }
    }
    Duration::from_nanos(total)
}

fn start_echo(address: mpsc::Sender<SocketAddr>) -> Runtime {
    shards::start(options(Pin::Off), move |shard: Shard<Mirror>| {
        let address = address.clone();
        async move {
            let listener = Listener::bind(&shard, ([127, 0, 0, 1], 0).into())?;
            address.send(listener.local_addr()).expect("a receiver");
            shard.ready();
            while let Some(stream) = listener.accept().await {
                shard.spawn(async move {
                    let mut buffer = BytesMut::new();
                    loop {
                        if buffer.capacity() < 16 << 10 {
                            buffer.reserve(64 << 10);
                        }
                        let Ok(1..) = stream.recv(&mut buffer).await else {
                            return;
                        };
                        if stream
                            .send_pieces(&[buffer.split().freeze()])
                            .await
                            .is_err()
                        {
                            return;
                        }
                    }
                });
            }
            Ok::<(), io::Error>(())
        }
    })
    .expect("the shards start")
}

/// One request in flight on each connection: all are sent, then all replies are read.
fn echo_client(
    address: SocketAddr,
    connections: usize,
    size: usize,
    pause: Duration,
) -> Vec<Duration> {
    let connect = |_| {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_nodelay(true).expect("nodelay");
        stream
    };
    let mut streams: Vec<TcpStream> = (0..connections).map(connect).collect();
    let (request, mut reply) = (vec![7; size], vec![0; size]);
    let end = Instant::now() + Duration::from_secs(2);
    let mut times = Vec::new();
    while Instant::now() < end {
        std::thread::sleep(pause);
        let mut sent = Vec::with_capacity(connections);
        for stream in &mut streams {
            sent.push(Instant::now());
            stream.write_all(&request).expect("sent");
        }
        for (stream, sent) in streams.iter_mut().zip(sent) {
            stream.read_exact(&mut reply).expect("a reply");
            times.push(sent.elapsed());
        }
    }
    times
}

/// CPU time of the process so far, user and system.
fn cpu_time() -> Duration {
    // SAFETY: the structure is plain data, which zeros initialise, and the kernel fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec as u64) + Duration::from_micros(t.tv_usec as u64)
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}
