//! Runs rows on peers, one after the other, round by round.

use std::io;
use std::time::{Duration, Instant};

use crate::peer::{Kind, Peer, Site};
use crate::report::Summary;
use crate::rows::{Row, Sample};
use crate::say;

/// How long it all takes.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Those that count.
    pub rounds: u64,
    /// Of one round of one row on one peer.
    pub round: Duration,
    /// Of load on a peer before the first round.
    pub warmup: Duration,
}

/// All rows on all peers, round by round.
pub fn run(rows: &[&Row], kinds: &[Kind], site: &Site, times: Times) -> io::Result<Vec<Summary>> {
    let start = |kind: &Kind| Peer::start(*kind, site);
    let mut peers: Vec<Peer> = kinds.iter().map(start).collect::<io::Result<_>>()?;
    for peer in &mut peers {
        say(&format!("warming up {}", peer.kind.name()))?;
        warm_up(peer, rows, site, times)?;
    }
    let mut runs: Vec<Run> = Vec::new();
    for row in rows {
        let indices = (0..peers.len()).filter(|i| row.is_for(peers[*i].kind));
        runs.extend(indices.map(|peer| Run::new(row, peer)));
    }
    for round in 1..=times.rounds {
        let mut last = "";
        for run in &mut runs {
            if last != run.row.name {
                last = run.row.name;
                say(&format!("round {round}: {last}"))?;
            }
            run.another(&mut peers[run.peer], site, times.round)?;
        }
    }
    Ok(runs
        .into_iter()
        .map(|run| Summary::new(run.row, peers[run.peer].kind, &run.samples, run.failure))
        .collect())
}

/// Loads a peer with what it will be measured with.
fn warm_up(peer: &mut Peer, rows: &[&Row], site: &Site, times: Times) -> io::Result<()> {
    let began = Instant::now();
    let Times { round, warmup, .. } = times;
    let kind = peer.kind;
    let loads = rows.iter().filter(|row| row.is_for(kind));
    for row in loads.cycle().take_while(|_| began.elapsed() < warmup) {
        if row.run(peer, site, round.min(warmup)).is_err() {
            // To be told when it counts.
            peer.restart(site)?;
        }
    }
    Ok(())
}

/// One row on one peer, over all rounds.
struct Run<'a> {
    row: &'a Row,
    /// By index.
    peer: usize,
    samples: Vec<Sample>,
    failure: Option<String>,
}

impl<'a> Run<'a> {
    fn new(row: &'a Row, peer: usize) -> Self {
        Run {
            row,
            peer,
            samples: Vec::new(),
            failure: None,
        }
    }

    /// Nothing more after it failed once: patience with it is limited.
    fn another(&mut self, peer: &mut Peer, site: &Site, time: Duration) -> io::Result<()> {
        if self.failure.is_some() {
            return Ok(());
        }
        // What the one before left to be written back is not this one's load.
        rustix::fs::sync();
        match self.row.run(peer, site, time) {
            Ok(sample) => self.samples.push(sample),
            Err(error) => {
                let name = peer.kind.name();
                say(&format!("{name} cannot do {}: {error}", self.row.name))?;
                self.failure = Some(error.to_string());
                peer.restart(site)?;
            }
        }
        Ok(())
    }
}
