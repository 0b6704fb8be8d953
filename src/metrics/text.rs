//! The text format of Prometheus, version 0.0.4.

use std::fmt::{Display, Write};

use super::cell::{Scale, Spread};
use super::table::Metric;

/// What is answered to a scrape, as far as it is written.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4";

    /// Begins a metric; its series come next.
    pub fn metric(&mut self, metric: &'static Metric) -> Series<'_> {
        let (name, kind) = (metric.name, metric.kind.name());
        self.line(format_args!("# HELP {name} {}", metric.help));
        self.line(format_args!("# TYPE {name} {kind}"));
        Series { page: self, metric }
    }

    pub fn finish(self) -> String {
        self.0
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a `String` cannot fail.
        let _ = writeln!(self.0, "{line}");
    }
}

/// The series of one metric.
pub struct Series<'a> {
    page: &'a mut Page,
    metric: &'static Metric,
}

impl Series<'_> {
    /// The one series of a metric without labels.
    pub fn value(&mut self, value: impl Display) {
        self.labelled(&[], value);
    }

    /// The series with these values of the metric's labels.
    pub fn labelled(&mut self, labels: &[&str], value: impl Display) {
        let labels = self.labels(labels, None);
        self.page
            .line(format_args!("{}{labels} {value}", self.metric.name));
    }

    /// A number for each shard.
    pub fn per_shard<N: Display>(&mut self, values: impl IntoIterator<Item = N>) {
        for (shard, value) in values.into_iter().enumerate() {
            self.labelled(&[&shard.to_string()], value);
        }
    }

    pub fn histogram<S: Scale>(&mut self, labels: &[&str], spread: &Spread<S>) {
        let name = self.metric.name;
        let mut bucket = |bound: &str, count| {
            let labels = self.labels(labels, Some(bound));
            self.page
                .line(format_args!("{name}_bucket{labels} {count}"));
        };
        for (bound, below) in spread.cumulative() {
            bucket(&bound.to_string(), below);
        }
        bucket("+Inf", spread.count());
        let labels = self.labels(labels, None);
        self.page
            .line(format_args!("{name}_sum{labels} {}", spread.sum()));
        self.page
            .line(format_args!("{name}_count{labels} {}", spread.count()));
    }

    fn labels(&self, values: &[&str], bound: Option<&str>) -> String {
        let names = self.metric.labels;
        debug_assert_eq!(names.len(), values.len(), "{}", self.metric.name);
        let named = names.iter().copied().zip(values.iter().copied());
        let all: Vec<String> = named
            .chain(bound.map(|bound| ("le", bound)))
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
            .collect();
        match all.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", all.join(",")),
        }
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::cell::{Amount, Histogram};
    use crate::metrics::table::{COMMIT_BATCHES, CONNECTIONS, REQUEST_ERRORS, TOPICS};

    #[test]
    fn series_are_written_as_prometheus_reads_them() {
        let mut page = Page::default();
        page.metric(&TOPICS).value(3);
        page.metric(&CONNECTIONS).per_shard([1, 2]);
        page.metric(&REQUEST_ERRORS)
            .labelled(&["a\"\\\n", "b"], 0.5);
        let text = page.finish();
        let series: Vec<_> = text.lines().filter(|l| !l.starts_with('#')).collect();
        let expected = [
            "tidegate_topics 3",
            "tidegate_connections{shard=\"0\"} 1",
            "tidegate_connections{shard=\"1\"} 2",
            "tidegate_request_errors_total{api=\"a\\\"\\\\\\n\",error=\"b\"} 0.5",
        ];
        assert_eq!(series, expected);
        assert!(text.starts_with("# HELP tidegate_topics Topics.\n# TYPE tidegate_topics gauge\n"));
    }

    #[test]
    fn the_buckets_of_a_histogram_are_cumulative() {
        let histogram = Histogram::<Amount>::default();
        for n in [1, 4, 5, 1_000_000] {
            histogram.note(n);
        }
        let mut page = Page::default();
        page.metric(&COMMIT_BATCHES)
            .histogram(&[], &Spread::of([&histogram].into_iter()));
        let text = page.finish();
        for line in [
            "tidegate_commit_batches_bucket{le=\"1\"} 1",
            "tidegate_commit_batches_bucket{le=\"4\"} 2",
            "tidegate_commit_batches_bucket{le=\"16\"} 3",
            "tidegate_commit_batches_bucket{le=\"65536\"} 3",
            "tidegate_commit_batches_bucket{le=\"+Inf\"} 4",
            "tidegate_commit_batches_sum 1000010",
            "tidegate_commit_batches_count 4",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
