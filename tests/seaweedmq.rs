//! Topics in SeaweedFS: a gateway with `--store seaweedmq` before a real one.

mod common;

use common::weed::Weed;
use common::{Gateway, batch, data_folder};
use tidegate::wire::ErrorCode;

/// A SeaweedFS, and a folder for gateways' logs.
struct Place {
    weed: Weed,
    data: tempfile::TempDir,
}

impl Place {
    fn start() -> Self {
        Place {
            weed: Weed::start(),
            data: data_folder(),
        }
    }

    fn gateway(&self, options: &[&str]) -> Gateway {
        let master = self.weed.master();
        let mut all = vec!["--store", "seaweedmq", "--seaweedfs-masters", &master];
        all.extend(options);
        Gateway::start(self.data.path(), &all)
    }
}

#[test]
fn topics_are_made_written_read_and_survive_a_restart() {
    let place = Place::start();
    let mut gateway = place.gateway(&["--shards", "2"]);
    let mut client = gateway.connect();
    client.create_topic("greetings", 3);
    for round in 0..5_i64 {
        for partition in 0..3 {
            let value = format!("{partition} {round}");
            let answer = client
                .produce(
                    "greetings",
                    partition,
                    batch(&[value.as_bytes(), b""], None),
                )
                .expect("an answer");
            assert_eq!(answer.error_code, ErrorCode::NONE);
            assert_eq!(answer.base_offset, 2 * round);
        }
    }
    let before: Vec<_> = (0..3).map(|p| client.drain("greetings", p)).collect();
    assert_eq!(before[0].len(), 10);
    assert_eq!(
        gateway.stop(),
        Some(0),
        "{}",
        Gateway::log(place.data.path())
    );
    let gateway = place.gateway(&["--shards", "1"]);
    let mut client = gateway.connect();
    for (partition, before) in before.iter().enumerate() {
        assert_eq!(&client.drain("greetings", partition as i32), before);
        let answer = client.produce("greetings", partition as i32, batch(&[b"more"], None));
        let answer = answer.expect("an answer");
        assert_eq!(
            (answer.error_code, answer.base_offset),
            (ErrorCode::NONE, 10)
        );
    }
}
