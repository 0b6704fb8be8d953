use std::collections::BTreeMap;

use super::*;
use crate::machine::{Activity, Check, Floor};
use crate::report::compare::Compare;
use crate::report::{Checked, Client, Doubt, Environment, Load};
use crate::sequence::Faults;
use crate::server::{Facts, Server};

const EVIL: &str = "<script>alert('x')</script>\"&";

/// A report in which all text from outside is markup.
fn document() -> Document {
    let mut latency = Latency::new();
    (1..=1_000).for_each(|n| latency.record(n * 100_000));
    let columns = [("rate", Unit::PerSecond), ("p99", Unit::Nanoseconds)];
    let mut series = Series::new(EVIL, ("time", Unit::Seconds), &columns);
    series.point(0.5, &[Some(1_000.0), Some(5e6)]);
    series.point(1.5, &[Some(0.0), None]);
    series.point(2.5, &[Some(900.0), Some(8e6)]);
    let mut table = Table::new(EVIL, &[(EVIL, Unit::Count)]);
    table.row_with_remark(EVIL, &[Some(3.0)], EVIL);
    let report = Report {
        scenario: "e2e".to_owned(),
        description: EVIL.to_owned(),
        topic: EVIL.to_owned(),
        partitions: 4,
        brokers: 1,
        load: Load {
            messages: 1_000,
            seconds: 2.0,
            messages_per_second: 12_345.0,
            megabytes_per_second: 12.64,
        },
        latencies: vec![
            Times::new("end to end", &latency),
            Times::new(EVIL, &latency),
        ],
        sending: None,
        reading: None,
        client: Client::default(),
        findings: None,
        checked: Some(Checked {
            messages: 1_000,
            faults: Faults {
                lost: 7,
                ..Faults::default()
            },
            first_fault: Some(EVIL.to_owned()),
        }),
        tables: vec![table.clone()],
        series: vec![series],
        check: Some(Check {
            timer: Floor::default(),
            loopback: None,
            before: Activity::default(),
        }),
        doubts: vec![Doubt {
            from_percentile: 99.9,
            reason: EVIL.to_owned(),
        }],
        warnings: vec![EVIL.to_owned()],
        server: Server {
            facts: vec![Facts {
                of: EVIL.to_owned(),
                facts: BTreeMap::from([(EVIL.to_owned(), EVIL.to_owned())]),
            }],
            metrics: Some(table.clone()),
            not_told: vec![EVIL.to_owned()],
        },
    };
    Document {
        format: String::new(),
        options: serde_json::json!({"bootstrap": [EVIL], "mixed": {"backlog": 5}, "topic": null}),
        environment: Environment {
            version: "1".to_owned(),
            revision: EVIL.to_owned(),
            time: "2026-01-01T00:00:00Z".to_owned(),
            kernel: EVIL.to_owned(),
            cpu: EVIL.to_owned(),
            cores: 2,
            governor: None,
        },
        report,
    }
}

fn comparison() -> Comparison {
    let run = |name: &str| Compare {
        name: name.to_owned(),
        document: document(),
    };
    Comparison {
        runs: vec![run(EVIL), run("second")],
    }
}

/// Checks that all elements are closed in order, and that markup is where markup can be.
fn check_markup(page: &str) {
    const VOID: [&str; 2] = ["meta", "!DOCTYPE"];
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        let tag = &rest[at + 1..];
        let end = tag.find('>').expect("a tag that ends");
        let (inner, after) = (&tag[..end], &tag[end + 1..]);
        assert!(
            inner.matches('"').count() % 2 == 0,
            "an attribute without end: <{inner}>"
        );
        let name = inner.split_whitespace().next().unwrap_or_default();
        rest = after;
        if let Some(closed) = name.strip_prefix('/') {
            assert_eq!(
                open.pop(),
                Some(closed),
                "at {}",
                &rest[..rest.len().min(80)]
            );
        } else if !VOID.contains(&name) {
            open.push(name);
        }
        if name == "script" || name == "style" {
            rest = &rest[rest.find("</").expect("an end")..];
        }
    }
    assert!(open.is_empty(), "not closed: {open:?}");
}

#[test]
fn pages_are_whole_and_escaped() {
    for page in [page(&document()), comparison_page(&comparison())] {
        check_markup(&page);
        assert_eq!(page.matches("<script>").count(), 1, "the page's own");
        assert!(page.contains("&lt;script&gt;alert"));
    }
}

#[test]
fn pages_ask_nobody() {
    for page in [page(&document()), comparison_page(&comparison())] {
        for request in [
            "http://", "https://", "src=", "href=", "url(", "@import", "fetch(",
        ] {
            assert!(!page.contains(request), "{request}");
        }
    }
}

#[test]
fn a_page_says_what_was_found() {
    let document = document();
    let page = page(&document);
    let p50 = document.report.latencies[0].p50_ns as f64;
    for text in [
        "7 lost",
        "12\u{202f}345",
        &Unit::Nanoseconds.text(p50),
        "from p99.9",
        "mixed.backlog",
        "latency, ms (log scale)",
        "99.9 %",
        "time, s",
    ] {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn every_chart_has_a_table_of_its_points() {
    let page = page(&document());
    let figures: Vec<&str> = page.split("<figure").skip(1).collect();
    assert_eq!(figures.len(), 3, "percentiles, rate, latency");
    for figure in figures {
        let figure = figure.split("</figure>").next().unwrap_or_default();
        assert!(
            figure.contains("<svg class=\"plot\"") && figure.contains("data-x="),
            "{figure}"
        );
    }
}

#[test]
fn a_comparison_has_the_lines_of_all_runs() {
    let page = comparison_page(&comparison());
    assert!(page.contains("×1.00"));
    let legends = page.matches("<li><svg").count();
    // Two histograms, and two columns over time, of two runs each.
    assert_eq!(legends, 8);
}

#[test]
fn large_numbers_are_grouped() {
    assert_eq!(grouped(1_234_567.4), "1\u{202f}234\u{202f}567");
    assert_eq!(grouped(9_999.0), "9999");
}
