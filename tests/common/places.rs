//! Folders of gateways whose partitions are in SeaweedFS, for programs that want many.

use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, OnceLock};

use shards::lock;

use super::data_folder;
use super::weed::{Part, Weed};

/// A filer and a broker are not started when a test wants them but before: a broker makes no topics in its
/// first seconds.
const READY: usize = 6;

/// A SeaweedFS, and a folder for gateways' files.
pub struct Place {
    pub data: tempfile::TempDir,
    pub weed: Weed,
}

impl Place {
    /// On a SeaweedFS of its own.
    pub fn start() -> Self {
        Place {
            weed: Weed::start(),
            data: data_folder(),
        }
    }

    pub fn path(&self) -> &Path {
        self.data.path()
    }
}

/// All tests of a program share the servers that take long to start, and their volumes. What keeps the topics
/// of one from those of another is a filer and a broker of its own, in a group of its own. Lines of the
/// gateway's configuration and arguments of the broker are those of the program's first call.
pub fn next_place(config: &'static str, broker: &'static [&'static str]) -> Place {
    static PLACES: OnceLock<Mutex<Receiver<Place>>> = OnceLock::new();
    let ready = PLACES.get_or_init(|| start_places(config, broker));
    lock(ready).recv().expect("SeaweedFS starts")
}

fn start_places(config: &'static str, broker: &'static [&'static str]) -> Mutex<Receiver<Place>> {
    let (sender, places) = sync_channel(READY);
    std::thread::spawn(move || {
        let shared = Weed::start_for_good(&[Part::Master, Part::Volume]);
        while sender.send(place(&shared, config, broker)).is_ok() {}
    });
    Mutex::new(places)
}

fn place(shared: &Weed, config: &str, broker: &[&str]) -> Place {
    let data = shared.folder_in();
    let name = data.path().file_name().expect("a name").to_string_lossy();
    let group: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let own = broker
        .iter()
        .map(|argument| (Part::Broker, (*argument).to_owned()));
    let weed = shared.start_group(&group, &[Part::Filer, Part::Broker], own.collect());
    let config = format!(
        "store = \"seaweedmq\"\nseaweedfs_masters = \"{}\"\nseaweedfs_filer_group = \"{group}\"\n{config}",
        shared.master()
    );
    std::fs::write(data.path().join("tidegate.toml"), config).expect("a file");
    Place { data, weed }
}
