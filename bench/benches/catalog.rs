//! The catalog: a change of one topic among few and among many, and a look-up.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tidegate::catalog::topic_config::TopicConfig;
use tidegate::catalog::{Catalog, Topic};

fn topic(name: String) -> Topic {
    Topic::new(&name.into(), 4, TopicConfig::default()).expect("an id")
}

fn changes(c: &mut Criterion) {
    for topics in [1, 100, 10_000] {
        let names = (0..topics).map(|n| topic(format!("topic.{n}")));
        let catalog: Catalog = names.collect();
        let mut group = c.benchmark_group("catalog");
        group.bench_function(BenchmarkId::new("create", topics), |b| {
            let new = topic("new.topic".to_owned());
            b.iter(|| black_box(catalog.with_topic(new.clone())));
        });
        group.bench_function(BenchmarkId::new("alter", topics), |b| {
            let mut altered = Topic::clone(catalog.by_name("topic.0").expect("a topic"));
            altered.partitions += 1;
            b.iter(|| black_box(catalog.with_topic(altered.clone())));
        });
        group.bench_function(BenchmarkId::new("by_name", topics), |b| {
            b.iter(|| black_box(catalog.by_name(black_box("topic.0"))));
        });
    }
}

criterion_group!(benches, changes);
criterion_main!(benches);
