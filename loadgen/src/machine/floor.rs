//! What a sleep and a round trip take at least.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use rustix::thread::{current_timer_slack, set_current_timer_slack};
use serde::{Deserialize, Serialize};

use crate::latency::Latency;

const SLEEP: Duration = Duration::from_millis(1);
/// As the producers' threads.
const SLACK_NS: Option<NonZeroU64> = NonZeroU64::new(1_000);
const MESSAGE_BYTES: usize = 64;
/// The other end of the loopback is in this process: only a stopped one lets it wait.
const PATIENCE: Duration = Duration::from_secs(1);

/// The least that something takes on this machine, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    pub p50_ns: u64,
    pub p99_ns: u64,
}

impl From<&Latency> for Floor {
    fn from(latency: &Latency) -> Self {
        Self {
            p50_ns: latency.percentile_ns(50.0),
            p99_ns: latency.percentile_ns(99.0),
        }
    }
}

/// How late sleeps end.
pub fn timer(time: Duration) -> Floor {
    let mut late = Latency::new();
    // The calling thread's is as it was, afterwards.
    let before = current_timer_slack().ok().and_then(NonZeroU64::new);
    let _ = set_current_timer_slack(SLACK_NS);
    let began = Instant::now();
    while began.elapsed() < time {
        let asleep = Instant::now();
        std::thread::sleep(SLEEP);
        late.record(nanos(asleep.elapsed().saturating_sub(SLEEP)));
    }
    let _ = set_current_timer_slack(before);
    Floor::from(&late)
}

/// How long a message is on its way to another thread and back.
///
/// # Errors
/// If the loopback cannot be used.
pub fn loopback(time: Duration) -> io::Result<Floor> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    for end in [&near, &far] {
        end.set_nodelay(true)?;
        end.set_read_timeout(Some(PATIENCE))?;
    }
    let echo = std::thread::spawn(move || echo(far));
    let round_trips = round_trips(near, time);
    // Its end of the connection is closed.
    let _ = echo.join();
    Ok(Floor::from(&round_trips?))
}

fn round_trips(mut near: TcpStream, time: Duration) -> io::Result<Latency> {
    let mut times = Latency::new();
    let mut message = [0; MESSAGE_BYTES];
    let began = Instant::now();
    while began.elapsed() < time {
        let sent = Instant::now();
        near.write_all(&message)?;
        near.read_exact(&mut message)?;
        times.record(nanos(sent.elapsed()));
    }
    Ok(times)
}

/// Sends back what comes, until the other end closes.
fn echo(mut far: TcpStream) {
    let mut message = [0; MESSAGE_BYTES];
    while far.read_exact(&mut message).is_ok() && far.write_all(&message).is_ok() {}
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_and_a_round_trip_take_some_time() {
        let timer = timer(Duration::from_millis(20));
        assert!(
            timer.p50_ns > 0 && timer.p50_ns <= timer.p99_ns,
            "{timer:?}"
        );
        let loopback = loopback(Duration::from_millis(20)).unwrap();
        assert!(
            loopback.p50_ns > 0 && loopback.p50_ns <= loopback.p99_ns,
            "{loopback:?}"
        );
    }
}
