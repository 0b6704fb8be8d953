//! The machine that the client runs on: what its timers and its loopback cost at least, and how busy
//! it was. A tail that is not far above these is not the broker's.

mod activity;
mod floor;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use activity::{Activity, Watch};
pub use floor::Floor;

/// Each of the two parts of the check.
const PART: Duration = Duration::from_millis(250);

/// What was found before the run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// How late a sleep of a millisecond ends.
    pub timer: Floor,
    /// A round trip of a small message over the loopback; none: there is no loopback to use.
    pub loopback: Option<Floor>,
    /// What the machine did while this program did nothing.
    pub before: Activity,
}

impl Check {
    /// Looks at the machine, for half a second.
    pub fn run() -> Self {
        let watch = Watch::start();
        let timer = floor::timer(PART);
        let before = watch.stop();
        Self {
            timer,
            loopback: floor::loopback(PART).ok(),
            before,
        }
    }
}
