//! SIGTERM and SIGINT. Each server runs in a process of its own, which this one signals.

mod common;

use common::{Counting, options};
use rustix::process::{Pid, Signal, getpid, kill_process};
use shards::{Options, Shard};
use std::future::pending;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// Set for the servers: the file that they make when they are ready.
const READY_FILE: &str = "SHARDS_TEST_READY_FILE";
/// What a server exits with after a graceful stop.
const GRACEFUL: i32 = 42;

fn main() {
    if let Some(ready) = std::env::var_os(READY_FILE) {
        serve(ready.into(), std::env::args().any(|arg| arg == "drains"));
    }
    // Listed, or filtered, as if by the usual harness: there is one test.
    if std::env::args().any(|arg| arg == "--list") {
        return;
    }
    the_first_signal_stops_gracefully();
    the_second_signal_ends_at_once();
    #[allow(clippy::print_stdout)]
    {
        println!("test result: ok. 2 passed; 0 failed");
    }
}

fn the_first_signal_stops_gracefully() {
    for signal in [Signal::TERM, Signal::INT] {
        let (child, mut server) = start("drains");
        kill_process(child, signal).unwrap();
        assert_eq!(wait(&mut server).code(), Some(GRACEFUL));
    }
}

fn the_second_signal_ends_at_once() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let (child, mut server) = start("hangs");
        kill_process(child, signal).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        assert!(
            server.try_wait().unwrap().is_none(),
            "the first signal ended it"
        );
        kill_process(child, signal).unwrap();
        assert_eq!(wait(&mut server).code(), Some(code));
    }
}

fn serve(ready: PathBuf, drains: bool) -> ! {
    let options = Options {
        signals: true,
        ..options()
    };
    let runtime = shards::start(options, move |shard: Shard<Counting>| async move {
        shard.ready();
        shard.stopping().await;
        if !drains {
            pending::<()>().await;
        }
        shards::sleep(Duration::from_millis(50)).await;
        Ok::<(), String>(())
    })
    .unwrap();
    std::fs::write(ready, "ready").unwrap();
    runtime.wait().unwrap();
    std::process::exit(GRACEFUL);
}

fn start(how: &str) -> (Pid, Child) {
    let name = format!("shards-signals-{}", getpid().as_raw_nonzero());
    let ready = std::env::temp_dir().join(name);
    let mut command = Command::new(std::env::current_exe().unwrap());
    let server = command.arg(how).env(READY_FILE, &ready).spawn().unwrap();
    let start = Instant::now();
    while !ready.exists() {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "it does not start"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    std::fs::remove_file(ready).unwrap();
    (Pid::from_child(&server), server)
}

fn wait(server: &mut Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = server.try_wait().unwrap() {
            return status;
        }
        if start.elapsed() > Duration::from_secs(10) {
            server.kill().unwrap();
            panic!("the server does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
