//! Reads what a scrape answers, and is strict about it.

use std::collections::{BTreeMap, HashMap};

type Labels = BTreeMap<String, String>;

/// One scrape.
#[derive(Debug)]
pub struct Scrape {
    /// Name and type, in order.
    pub metrics: Vec<(String, String)>,
    series: HashMap<(String, Labels), f64>,
}

impl Scrape {
    /// # Panics
    /// If it is not what the format allows.
    pub fn parse(text: &str) -> Scrape {
        let mut scrape = Scrape {
            metrics: Vec::new(),
            series: HashMap::new(),
        };
        assert!(text.ends_with('\n'), "the last line ends");
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let (name, help) = split(line, "# HELP ");
            assert!(!help.is_empty(), "{line}");
            let (typed, kind) = split(lines.next().expect("a type"), "# TYPE ");
            assert_eq!(typed, name, "HELP and TYPE belong together");
            let known = scrape.metrics.iter().any(|(known, _)| known == name);
            assert!(!known, "{name} is there twice");
            scrape.metrics.push((name.to_owned(), kind.to_owned()));
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                scrape.take_series(name, kind, line);
            }
            if kind == "histogram" {
                scrape.check_histogram(name);
            }
        }
        scrape
    }

    fn take_series(&mut self, metric: &str, kind: &str, line: &str) {
        let (key, value) = line.rsplit_once(' ').expect("a value");
        let value: f64 = value.parse().expect("a number");
        let (name, labels) = match key.split_once('{') {
            None => (key, Labels::new()),
            Some((name, rest)) => (name, parse_labels(rest.strip_suffix('}').expect("a brace"))),
        };
        let suffix = name.strip_prefix(metric).expect("a series of the metric");
        match kind {
            "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}"),
            "counter" | "gauge" => assert_eq!(suffix, "", "{line}"),
            _ => panic!("an unknown type: {kind}"),
        }
        assert!(
            value.is_finite() && (kind != "counter" || value >= 0.0),
            "{line}"
        );
        let before = self.series.insert((name.to_owned(), labels), value);
        assert_eq!(before, None, "a series twice: {line}");
    }

    fn check_histogram(&self, name: &str) {
        let mut buckets: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
        for ((series, labels), count) in &self.series {
            if *series == format!("{name}_bucket") {
                let mut labels = labels.clone();
                let bound = labels.remove("le").expect("a bound");
                let bound = bound.replace("+Inf", "inf").parse().expect("a number");
                buckets.entry(labels).or_default().push((bound, *count));
            }
        }
        for (labels, mut buckets) in buckets {
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(
                buckets.is_sorted_by(|a, b| a.1 <= b.1),
                "{name}: {buckets:?}"
            );
            let (last, all) = *buckets.last().expect("a bucket");
            assert!(last.is_infinite());
            let of = |suffix| {
                self.series
                    .get(&(format!("{name}_{suffix}"), labels.clone()))
            };
            assert_eq!(of("count"), Some(&all), "{name}");
            assert!(of("sum").is_some(), "{name}");
        }
    }

    /// The series with these labels.
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        self.series
            .get(&(name.to_owned(), labels.collect()))
            .copied()
    }

    /// How many series a name has.
    pub fn count(&self, name: &str) -> usize {
        self.series
            .keys()
            .filter(|(series, _)| series == name)
            .count()
    }

    /// All series of a name, summed.
    pub fn sum(&self, name: &str) -> f64 {
        let of_name = self.series.iter().filter(|((series, _), _)| series == name);
        of_name.map(|(_, value)| value).sum()
    }
}

/// Name and rest of a comment line.
fn split<'a>(line: &'a str, prefix: &str) -> (&'a str, &'a str) {
    let rest = line.strip_prefix(prefix);
    rest.and_then(|rest| rest.split_once(' '))
        .unwrap_or_else(|| panic!("not {prefix:?}: {line}"))
}

fn parse_labels(text: &str) -> Labels {
    let mut labels = Labels::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").expect("a label");
        let end = after.find('"').expect("a closing quote");
        let value = &after[..end];
        assert!(!value.contains('\\'), "nothing in here needs an escape");
        let before = labels.insert(name.to_owned(), value.to_owned());
        assert_eq!(before, None, "a label twice");
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    labels
}
