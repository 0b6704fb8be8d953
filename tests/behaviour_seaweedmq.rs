//! The gateway's behaviour with partitions in SeaweedFS.

#[path = "behaviour/mod.rs"]
mod behaviour;
mod common;

use std::path::Path;
use std::sync::OnceLock;

use common::weed::{Part, Weed};

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

/// All tests share the servers that take long to start. What tells the topics of one from those of another
/// is a filer and a broker of its own, in a group of its own.
fn data_folder() -> Place {
    static SHARED: OnceLock<Weed> = OnceLock::new();
    let shared = SHARED.get_or_init(|| Weed::start_for_good(&[Part::Master, Part::Volume]));
    let data = common::data_folder();
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
