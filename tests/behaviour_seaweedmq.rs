//! The gateway's behaviour with partitions in SeaweedFS.

#[path = "behaviour/mod.rs"]
mod behaviour;
mod common;

use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, OnceLock};

use common::weed::{Part, Weed};

/// Batches are made again from their records: with the same codec, but not at the same level.
const KEEPS_BATCHES: bool = false;

/// A filer and a broker are not started when a test wants them but before: a broker makes no topics in its
/// first seconds.
const READY: usize = 6;

/// The folder of a gateway whose partitions are in SeaweedFS.
struct Place {
    data: tempfile::TempDir,
    _weed: Weed,
}

impl Place {
    fn path(&self) -> &Path {
        self.data.path()
    }
}

/// All tests share the servers that take long to start, and their volumes. What keeps the topics of one from
/// those of another is a filer and a broker of its own, in a group of its own.
fn data_folder() -> Place {
    static PLACES: OnceLock<Mutex<Receiver<Place>>> = OnceLock::new();
    let ready = PLACES.get_or_init(start_places).lock();
    let ready = ready.unwrap_or_else(|poisoned| poisoned.into_inner());
    ready.recv().expect("SeaweedFS starts")
}

fn start_places() -> Mutex<Receiver<Place>> {
    let (sender, places) = sync_channel(READY);
    std::thread::spawn(move || {
        let shared = Weed::start_for_good(&[Part::Master, Part::Volume]);
        while sender.send(place(&shared)).is_ok() {}
    });
    Mutex::new(places)
}

fn place(shared: &Weed) -> Place {
    let data = shared.folder_in();
    let name = data.path().file_name().expect("a name").to_string_lossy();
    let group: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let weed = shared.start_group(&group, &[Part::Filer, Part::Broker]);
    let config = format!(
        "store = \"seaweedmq\"\nseaweedfs_masters = \"{}\"\nseaweedfs_filer_group = \"{group}\"\n",
        shared.master()
    );
    std::fs::write(data.path().join("tidegate.toml"), config).expect("a file");
    Place { data, _weed: weed }
}
