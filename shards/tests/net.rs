//! TCP.

mod common;

use bytes::{Bytes, BytesMut};
use common::{Counting, Watch, options, run_on_first, with_shards};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shards::net::{Listener, Stream};
use shards::{Runtime, Shard, ShardStats};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A server on each shard at `address`; tells each shard's own address.
fn serve<F, Fut>(shards: usize, address: IpAddr, serve: F) -> (Runtime, Vec<SocketAddr>)
where
    F: Fn(Shard<Counting>, Stream) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let (bound, addresses) = mpsc::channel();
    let runtime = shards::start(with_shards(shards), move |shard: Shard<Counting>| {
        let (bound, serve) = (bound.clone(), serve.clone());
        async move {
            let listener = Listener::bind(&shard, (address, 0).into())?;
            bound
                .send(listener.local_addr())
                .map_err(io::Error::other)?;
            shard.ready();
            while let Some(stream) = listener.accept().await {
                shard.spawn(serve(shard.clone(), stream));
            }
            Ok::<(), io::Error>(())
        }
    })
    .unwrap();
    (runtime, addresses.iter().take(shards).collect())
}

async fn echo(_: Shard<Counting>, stream: Stream) {
    let mut buffer = BytesMut::new();
    while let Ok(1..) = stream.recv(&mut buffer).await {
        let mut rope = VecDeque::from([buffer.split().freeze()]);
        if stream.send(&mut rope).await.is_err() {
            return;
        }
    }
}

/// Bytes that tell a shift from a loss.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

#[test]
fn shards_share_a_free_port() {
    let _watch = Watch::start("shared port");
    let (runtime, addresses) = serve(4, LOOPBACK, echo);
    assert!(addresses.iter().all(|address| *address == addresses[0]));
    for _ in 0..100 {
        let mut client = TcpStream::connect(addresses[0]).unwrap();
        client.write_all(b"hello").unwrap();
        let mut reply = [0; 5];
        client.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"hello");
    }
    // The kernel spreads connections by a hash: with 100 of them, every shard gets some.
    let ran: Vec<ShardStats> = runtime.stats();
    assert!(ran.iter().all(|shard| shard.polls > 3), "{ran:?}");
    runtime.stop_and_wait().unwrap();
    assert!(TcpStream::connect(addresses[0]).is_err());
}

/// Tells each client its shard, and keeps the connection until the client ends it.
async fn tell_shard(shard: Shard<Counting>, stream: Stream) {
    let index = Bytes::from(vec![shard.index() as u8]);
    if stream.send_pieces(&[index]).await.is_ok() {
        stream.readable().await;
    }
}

/// A client, and the shard that has it.
fn connect_and_ask(address: SocketAddr) -> (TcpStream, usize) {
    let mut client = TcpStream::connect(address).unwrap();
    let mut index = [0];
    client.read_exact(&mut index).unwrap();
    (client, index[0].into())
}

#[test]
fn connections_go_to_the_shard_that_has_the_fewest() {
    let watch = Watch::start("balance");
    let (runtime, addresses) = serve(2, LOOPBACK, tell_shard);
    let (mut first, second): (Vec<_>, Vec<_>) = (0..20)
        .map(|_| connect_and_ask(addresses[0]))
        .partition(|(_, shard)| *shard == 0);
    assert_eq!((first.len(), second.len()), (10, 10));

    first.clear();
    while runtime.stats()[0].connections > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    for _ in 0..10 {
        first.push(connect_and_ask(addresses[0]));
        watch.step();
    }
    assert!(first.iter().all(|(_, shard)| *shard == 0));
    let counts = runtime.stats().into_iter().map(|shard| shard.connections);
    assert_eq!(counts.collect::<Vec<_>>(), [10, 10]);
    runtime.stop_and_wait().unwrap();
}

#[test]
fn no_connection_goes_to_a_shard_that_does_not_listen() {
    let _watch = Watch::start("balance without one");
    let (bound, addresses) = mpsc::channel();
    let runtime = shards::start(with_shards(3), move |shard: Shard<Counting>| {
        let bound = bound.clone();
        async move {
            let listener = Listener::bind(&shard, (LOOPBACK, 0).into())?;
            let address = listener.local_addr();
            // One has listened.
            let listener = (shard.index() > 0).then_some(listener);
            bound.send(address).map_err(io::Error::other)?;
            shard.ready();
            while let Some(listener) = &listener
                && let Some(stream) = listener.accept().await
            {
                shard.spawn(tell_shard(shard.clone(), stream));
            }
            shard.stopping().await;
            Ok::<(), io::Error>(())
        }
    })
    .unwrap();
    let address = addresses.recv().unwrap();
    let clients: Vec<_> = (0..8).map(|_| connect_and_ask(address)).collect();
    let of = |shard| clients.iter().filter(|(_, of)| *of == shard).count();
    assert_eq!([of(0), of(1), of(2)], [0, 4, 4]);
    runtime.stop_and_wait().unwrap();
}

#[test]
fn connections_to_a_port_of_its_own_stay_on_the_shard_and_count() {
    let _watch = Watch::start("balance beside own ports");
    let (bound, addresses) = mpsc::channel();
    let runtime = shards::start(options(), move |shard: Shard<Counting>| {
        let bound = bound.clone();
        async move {
            let shared = Listener::bind(&shard, (LOOPBACK, 0).into())?;
            let own = Listener::bind_own(&shard, (LOOPBACK, 0).into())?;
            let addresses = [shared.local_addr(), own.local_addr()];
            bound
                .send((shard.index(), addresses))
                .map_err(io::Error::other)?;
            shard.ready();
            let of_own = shard.clone();
            shard.spawn(async move {
                while let Some(stream) = own.accept().await {
                    of_own.spawn(tell_shard(of_own.clone(), stream));
                }
            });
            while let Some(stream) = shared.accept().await {
                shard.spawn(tell_shard(shard.clone(), stream));
            }
            Ok::<(), io::Error>(())
        }
    })
    .unwrap();
    let (shard, [shared, own]) = addresses.recv().unwrap();
    let connect = |address| (0..4).map(move |_| connect_and_ask(address));
    let to_own: Vec<_> = connect(own).collect();
    assert!(to_own.iter().all(|(_, of)| *of == shard));
    let to_shared: Vec<_> = connect(shared).collect();
    assert!(to_shared.iter().all(|(_, of)| *of != shard));
    runtime.stop_and_wait().unwrap();
}

#[test]
fn an_unspecified_ipv6_address_takes_both_families() {
    let _watch = Watch::start("dual stack");
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        // This host has no IPv6.
        return;
    }
    let tell_peer = |_: Shard<Counting>, stream: Stream| async move {
        let peer = stream.peer_addr().to_string();
        stream.send_pieces(&[Bytes::from(peer)]).await.unwrap();
    };
    let (runtime, addresses) = serve(2, Ipv6Addr::UNSPECIFIED.into(), tell_peer);
    for ip in [LOOPBACK, Ipv6Addr::LOCALHOST.into()] {
        let mut client = TcpStream::connect((ip, addresses[0].port())).unwrap();
        let mut peer = String::new();
        client.read_to_string(&mut peer).unwrap();
        let peer: SocketAddr = peer.parse().unwrap();
        assert_eq!(peer.ip().to_canonical(), ip);
        assert_eq!(peer.port(), client.local_addr().unwrap().port());
    }
    runtime.stop_and_wait().unwrap();
}

#[test]
fn an_address_that_another_runtime_uses_is_refused() {
    let _watch = Watch::start("address in use");
    let (runtime, addresses) = serve(2, LOOPBACK, echo);
    let taken = addresses[0];
    let second = shards::start(options(), move |shard: Shard<Counting>| async move {
        Listener::bind(&shard, taken).map(drop)
    });
    let error = second.err().expect("the port is taken").to_string();
    assert!(error.contains("in use"), "{error}");
    runtime.stop_and_wait().unwrap();
}

#[test]
fn groups_of_listeners_do_not_mix() {
    let _watch = Watch::start("groups of listeners");
    let (bound, addresses) = mpsc::channel();
    let runtime = shards::start(options(), move |shard: Shard<Counting>| {
        let bound = bound.clone();
        async move {
            // Only one shard has this one.
            let admin = (shard.index() == 0)
                .then(|| Listener::bind(&shard, (Ipv4Addr::UNSPECIFIED, 0).into()))
                .transpose()?;
            let first = Listener::bind(&shard, (LOOPBACK, 0).into())?;
            let second = Listener::bind(&shard, (LOOPBACK, 0).into())?;
            let ports = [&first, &second].map(|listener| listener.local_addr().port());
            bound.send(ports).map_err(io::Error::other)?;
            shard.ready();
            shard.stopping().await;
            drop((admin, first, second));
            Ok::<(), io::Error>(())
        }
    })
    .unwrap();
    let [one, other] = [addresses.recv().unwrap(), addresses.recv().unwrap()];
    assert_eq!(one, other);
    assert_ne!(one[0], one[1]);
    runtime.stop_and_wait().unwrap();
}

#[test]
fn a_shard_has_a_port_of_its_own_too() {
    let _watch = Watch::start("own port");
    let (bound, addresses) = mpsc::channel();
    let runtime = shards::start(options(), move |shard: Shard<Counting>| {
        let bound = bound.clone();
        async move {
            let own = Listener::bind_own(&shard, (LOOPBACK, 0).into())?;
            bound
                .send((shard.index(), own.local_addr()))
                .map_err(io::Error::other)?;
            shard.ready();
            while let Some(stream) = own.accept().await {
                stream
                    .send_pieces(&[Bytes::from(vec![shard.index() as u8])])
                    .await?;
            }
            Ok::<(), io::Error>(())
        }
    })
    .unwrap();
    for (index, address) in addresses.iter().take(2).collect::<Vec<_>>() {
        let mut byte = [9];
        TcpStream::connect(address)
            .unwrap()
            .read_exact(&mut byte)
            .unwrap();
        assert_eq!(usize::from(byte[0]), index);
    }
    runtime.stop_and_wait().unwrap();
}

#[test]
fn ropes_of_any_number_of_pieces_arrive_whole_at_a_slow_reader() {
    let watch = Watch::start("ropes");
    // Pieces, bytes of each: single ones, more than one system call takes, empty ones, large ones.
    const ROPES: [(usize, usize); 9] = [
        (1, 1),
        (1, 3_000_000),
        (2, 700_000),
        (16, 1000),
        (17, 1000),
        (1024, 10),
        (1025, 700),
        (5000, 333),
        (40, 0),
    ];
    let send_all = |_: Shard<Counting>, stream: Stream| async move {
        for (pieces, size) in ROPES {
            let piece = Bytes::from(pattern(size));
            let mut rope = VecDeque::from(vec![piece.clone(); pieces]);
            stream.send(&mut rope).await.unwrap();
            assert!(rope.is_empty());
            stream.send_pieces(&vec![piece; pieces]).await.unwrap();
        }
    };
    let (runtime, addresses) = serve(2, LOOPBACK, send_all);
    let mut client = TcpStream::connect(addresses[0]).unwrap();
    for (pieces, size) in ROPES {
        let expected = pattern(size);
        let mut got = vec![0; size];
        for n in 0..2 * pieces {
            if n % 64 == 0 && size > 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
            client.read_exact(&mut got).unwrap();
            assert!(got == expected, "piece {n} of {pieces} of {size} bytes");
            watch.step();
        }
    }
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    runtime.stop_and_wait().unwrap();
}

#[test]
fn a_send_that_is_dropped_leaves_the_rest() {
    let _watch = Watch::start("dropped send");
    let impatient = |_: Shard<Counting>, stream: Stream| async move {
        let all = Bytes::from(pattern(16 << 20));
        let mut rope: VecDeque<Bytes> = (0..1024)
            .map(|n| all.slice(n << 14..(n + 1) << 14))
            .collect();
        let mut dropped = 0;
        while shards::timeout(Duration::from_millis(5), stream.send(&mut rope))
            .await
            .is_err()
        {
            dropped += 1;
        }
        assert!(dropped > 0, "the reader was not slow");
        assert!(rope.is_empty());
    };
    let (runtime, addresses) = serve(1, LOOPBACK, impatient);
    let mut client = TcpStream::connect(addresses[0]).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert!(got == pattern(16 << 20));
    assert_eq!(runtime.stats()[0].panics, 0);
    runtime.stop_and_wait().unwrap();
}

#[test]
fn one_task_receives_while_another_sends() {
    let watch = Watch::start("full duplex");
    const LENGTH: usize = 8 << 20;
    let duplex = |shard: Shard<Counting>, stream: Stream| async move {
        let stream = Rc::new(stream);
        let sender = stream.clone();
        shard.spawn(async move {
            sender
                .send_pieces(&[Bytes::from(pattern(LENGTH))])
                .await
                .unwrap();
            sender.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = BytesMut::new();
        while got.len() < LENGTH {
            got.reserve(64 << 10);
            assert_ne!(stream.recv(&mut got).await.unwrap(), 0);
        }
        assert!(got == pattern(LENGTH));
        // Only now the peer gets its last byte.
        let mut one = [0];
        assert_eq!(stream.recv_slice(&mut one).await.unwrap(), 0);
    };
    let (runtime, addresses) = serve(2, LOOPBACK, duplex);
    let mut client = TcpStream::connect(addresses[0]).unwrap();
    let mut writer = client.try_clone().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(&pattern(LENGTH)).unwrap());
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert!(got == pattern(LENGTH));
    writing.join().unwrap();
    watch.step();
    client.shutdown(Shutdown::Write).unwrap();
    while runtime.stats().iter().map(|shard| shard.tasks).sum::<u64>() > 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(
        runtime
            .stats()
            .iter()
            .map(|shard| shard.panics)
            .sum::<u64>(),
        0
    );
    runtime.stop_and_wait().unwrap();
}

#[test]
fn a_receive_that_is_dropped_loses_nothing() {
    let _watch = Watch::start("dropped receives");
    let impatient = |_: Shard<Counting>, stream: Stream| async move {
        let mut got = BytesMut::new();
        loop {
            got.reserve(1000);
            let received = shards::timeout(Duration::from_micros(100), stream.recv(&mut got)).await;
            match received {
                Ok(Ok(0)) => break,
                Ok(received) => assert!(received.unwrap() <= got.capacity()),
                // Waiting without a buffer is no different.
                Err(_) => drop(shards::timeout(Duration::from_micros(50), stream.readable()).await),
            }
        }
        stream.send_pieces(&[got.freeze()]).await.unwrap();
    };
    let (runtime, addresses) = serve(1, LOOPBACK, impatient);
    let mut client = TcpStream::connect(addresses[0]).unwrap();
    let sent = pattern(200_000);
    for piece in sent.chunks(1777) {
        client.write_all(piece).unwrap();
        std::thread::sleep(Duration::from_micros(150));
    }
    client.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert!(got == sent);
    runtime.stop_and_wait().unwrap();
}

#[test]
fn a_reset_connection_is_an_error_on_both_sides() {
    let _watch = Watch::start("reset");
    let (seen, errors) = mpsc::channel();
    let until_error = move |_: Shard<Counting>, stream: Stream| {
        let seen = seen.clone();
        async move {
            let mut buffer = BytesMut::with_capacity(64);
            let received = loop {
                match stream.recv(&mut buffer).await {
                    Ok(1..) => {}
                    ended => break ended,
                }
            };
            let sent = stream.send_pieces(&[Bytes::from_static(b"too late")]).await;
            seen.send((received.is_err(), sent.is_err())).unwrap();
        }
    };
    let (runtime, addresses) = serve(1, LOOPBACK, until_error);
    for _ in 0..20 {
        let mut client = TcpStream::connect(addresses[0]).unwrap();
        client.write_all(b"x").unwrap();
        let client = socket2::Socket::from(client);
        client.set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        assert_eq!(
            errors.recv_timeout(Duration::from_secs(5)),
            Ok((true, true))
        );
    }
    runtime.stop_and_wait().unwrap();
}

#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    let watch = Watch::start("connections come and go");
    let (runtime, addresses) = serve(2, LOOPBACK, echo);
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut first = 0;
    for round in 0..20 {
        for _ in 0..50 {
            let mut client = TcpStream::connect(addresses[0]).unwrap();
            client.write_all(b"x").unwrap();
            client.read_exact(&mut [0]).unwrap();
        }
        while runtime.stats().iter().map(|shard| shard.tasks).sum::<u64>() > 2 {
            std::thread::sleep(Duration::from_millis(1));
        }
        if round == 0 {
            first = descriptors();
        }
        watch.step();
    }
    // Other tests of this process open and close some meanwhile.
    assert!(
        descriptors() < first + 500,
        "{first}, then {}",
        descriptors()
    );
    runtime.stop_and_wait().unwrap();
}

#[test]
fn a_peer_that_never_stops_does_not_starve_others() {
    let _watch = Watch::start("a flood");
    // It takes no turns, and always finds something to receive.
    let drain = |_: Shard<Counting>, stream: Stream| async move {
        let mut byte = [0];
        while let Ok(1..) = stream.recv_slice(&mut byte).await {}
    };
    let (runtime, addresses) = serve(1, LOOPBACK, drain);
    let mut flood = TcpStream::connect(addresses[0]).unwrap();
    let handle = flood.try_clone().unwrap();
    let flooding = std::thread::spawn(move || while flood.write_all(&[0; 65536]).is_ok() {});
    std::thread::sleep(Duration::from_millis(50));
    // Others are accepted and served meanwhile.
    for _ in 0..20 {
        let mut other = TcpStream::connect(addresses[0]).unwrap();
        other.shutdown(Shutdown::Write).unwrap();
        assert_eq!(other.read(&mut [0]).unwrap(), 0);
    }
    handle.shutdown(Shutdown::Both).unwrap();
    flooding.join().unwrap();
    runtime.stop_and_wait().unwrap();
}

/// Runs a test of this file that is ignored in a process of its own.
fn in_a_child(test: &str) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", test])
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}\n{printed}", output.status);
}

#[test]
fn a_shortage_of_descriptors_is_waited_out() {
    in_a_child("shortage_of_descriptors");
}

#[test]
#[ignore = "needs a process of its own; the test above runs it"]
fn shortage_of_descriptors() {
    let _watch = Watch::start("shortage of descriptors");
    let (runtime, addresses) = serve(1, LOOPBACK, echo);
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let limit = getrlimit(Resource::Nofile);
    let tight = Rlimit {
        current: Some(open + 12),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, tight).unwrap();
    // Each of these takes a descriptor on either side, so that some cannot be accepted.
    let mut clients = Vec::new();
    while let Ok(client) = TcpStream::connect(addresses[0]) {
        clients.push(client);
    }
    assert!(clients.len() > 3);
    std::thread::sleep(Duration::from_millis(250));
    setrlimit(Resource::Nofile, limit).unwrap();
    let start = Instant::now();
    for client in &mut clients {
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    runtime.stop_and_wait().unwrap();
}

#[test]
fn accept_may_be_dropped_and_loses_nothing() {
    let _watch = Watch::start("dropped accepts");
    run_on_first(with_shards(1), |shard| async move {
        let listener = Listener::bind(&shard, (LOOPBACK, 0).into()).unwrap();
        let address = listener.local_addr();
        let clients = std::thread::spawn(move || {
            (0..200)
                .map(|_| TcpStream::connect(address).unwrap())
                .collect::<Vec<_>>()
        });
        let mut accepted = Vec::new();
        while accepted.len() < 200 {
            let next = shards::timeout(Duration::from_micros(50), listener.accept());
            if let Ok(stream) = next.await {
                accepted.push(stream.expect("the runtime goes on"));
            }
        }
        assert_eq!(clients.join().unwrap().len(), 200);
    });
}
