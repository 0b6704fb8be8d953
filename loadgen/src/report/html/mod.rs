//! Reports as pages: one file each, which asks nobody for anything. All text goes through `maud`,
//! which escapes it.

mod axis;
mod chart;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use super::compare::{Cell, Comparison};
use super::figure::{Column, Series, Table, Unit};
use super::{Document, Report, Times, text};
use crate::latency::{Latency, Quantile};
use axis::Scale;
use chart::{Chart, Line, Point};

const CSS: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// The page may use what is in it, and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";
/// Points of a percentile curve each time that the distance to 1 halves.
const TICKS: u32 = 8;

const DOUBT: &str =
    "⚠ Not to be trusted: the machine or the client may be what these figures show.";

/// A report as a page.
pub fn page(document: &Document) -> String {
    let report = &document.report;
    let environment = &document.environment;
    let title = format!("{}: {}", report.scenario, report.description);
    let body = html! {
        h1 { "Load test: " (report.scenario) }
        p { (capital(&report.description)) }
        p.faint { @if !report.topic.is_empty() { "Topic " (report.topic) ", " (text::topology(report)) "; " }
            (environment.time) "; tidegate-loadgen " (environment.version) " "
            (environment.revision) }
        (verdict(report))
        (tiles(report))
        (trust(report))
        (latencies(report))
        (findings(report))
        (over_time(report))
        h2 { "Both sides" }
        div.charts {
            (sides(report))
            (environment_of(document))
        }
        @if let Some(table) = &report.server.metrics {
            h2 { "Server's metrics" }
            details {
                summary { (table.rows.len()) " metrics" }
                (figures(table))
            }
        }
        @for reason in &report.server.not_told { p.faint { "The server did not tell: " (reason) } }
    };
    whole(&title, &body)
}

fn whole(title: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(CSS)) }
            }
            body {
                (body)
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

/// Whether what was read is what was sent.
fn verdict(report: &Report) -> Markup {
    html! {
        @match &report.checked {
            None if report.sending.is_some() => p.verdict { "Not checked: what was sent was not read back." },
            None => {}
            Some(checked) if checked.faults.none() => p.verdict.good {
                "✓ " (checked.messages) " messages read: " (checked.faults)
            },
            Some(checked) => {
                p.verdict.bad { "✗ " (checked.messages) " messages read: " (checked.faults) }
                @if let Some(fault) = &checked.first_fault {
                    p { "For example, " (fault) }
                }
            }
        }
    }
}

fn tiles(report: &Report) -> Markup {
    let load = &report.load;
    let mut tiles = Vec::new();
    if load.messages > 0 {
        let (messages, megabytes) = (load.messages_per_second, load.megabytes_per_second);
        tiles.push(("messages".to_owned(), grouped(messages), "/s"));
        tiles.push(("data".to_owned(), format!("{megabytes:.2}"), "MB/s"));
    }
    if let Some(times) = report.latencies.first() {
        let percentiles = times.percentiles().into_iter().take(4);
        let named = percentiles.map(|(percent, ns)| (format!("p{percent}"), ns));
        for (name, ns) in named.chain([("max".to_owned(), times.max_ns)]) {
            let name = format!("{}, {name}", times.of);
            tiles.push((name, Unit::Nanoseconds.text(ns as f64), "ms"));
        }
    }
    html! {
        dl.tiles {
            @for (name, value, unit) in &tiles {
                div { dt { (name) } dd { (value) " " small { (unit) } } }
            }
        }
        @if load.messages > 0 {
            p.faint { (grouped(load.messages as f64)) " messages in " (format!("{:.3}", load.seconds)) " s" }
        }
    }
}

fn trust(report: &Report) -> Markup {
    html! {
        @if report.doubts.is_empty() {
            p { "No sign that the machine or the client, and not the broker, is what these figures show"
                @if report.check.is_none() { " (the machine was not checked)" } "." }
        } @else {
            p.verdict.doubt { (DOUBT) }
            ul {
                @for doubt in &report.doubts { li { (doubt.about()) ": " (doubt.reason) } }
            }
        }
        @for warning in &report.warnings { p.doubt { "⚠ " (warning) } }
    }
}

fn latencies(report: &Report) -> Markup {
    if report.latencies.is_empty() {
        return Markup::default();
    }
    let curves = report.latencies.iter();
    let curves = curves.filter_map(|times| Some((times.of.clone(), times.decoded().ok()?)));
    html! {
        h2 { "Latency" }
        div.charts.beside {
            (curve("Latency by percentile", &curves.collect::<Vec<_>>()).figure())
            div {
                h3 { "Percentiles, and how many were measured" }
                (figures(&percentiles(&report.latencies)))
            }
        }
    }
}

fn percentiles(latencies: &[Times]) -> Table {
    let names = ["p50", "p90", "p99", "p99.9", "p99.99", "max"];
    let columns = names.map(|name| (name, Unit::Nanoseconds));
    let mut table = Table::new("latency", &columns);
    for times in latencies {
        let percentiles = times.percentiles().map(|(_, ns)| ns);
        let all = percentiles.into_iter().chain([times.max_ns]);
        let values: Vec<Option<f64>> = all.map(|ns| Some(ns as f64)).collect();
        let name = format!("{} ({})", times.of, grouped(times.count as f64));
        table.row(name, &values);
    }
    table
}

/// Percentile curves. What is beyond the last message of a curve is not there.
fn curve(title: &str, latencies: &[(String, Latency)]) -> Chart {
    let point = |quantile: Quantile| Point {
        x: quantile.quantile,
        y: Some(Unit::Nanoseconds.scaled(quantile.ns as f64)),
        x_text: format!("{} %", axis::short(quantile.quantile * 100.0)),
        y_text: Unit::Nanoseconds.text(quantile.ns as f64),
    };
    let line = |(name, latency): &(String, Latency)| {
        let below_one = |quantile: &Quantile| quantile.quantile < 1.0;
        Line {
            name: name.clone(),
            points: latency
                .quantiles(TICKS)
                .filter(below_one)
                .map(point)
                .collect(),
        }
    };
    Chart {
        title: title.to_owned(),
        x_title: "percentile".to_owned(),
        y_title: "latency, ms".to_owned(),
        x_scale: Scale::Nines,
        y_scale: Scale::Log,
        lines: latencies.iter().map(line).collect(),
    }
}

/// What this scenario has and others have not.
fn findings(report: &Report) -> Markup {
    html! {
        @if report.findings.is_some() || !report.tables.is_empty() {
            h2 { "Findings" }
            @for table in &report.tables { (figures(table)) }
            @if let Some(findings) = &report.findings { pre { (findings) } }
        }
    }
}

fn over_time(report: &Report) -> Markup {
    html! {
        @for series in &report.series {
            h2 { (capital(&series.title)) " by " (series.x.name) }
            div.charts { @for chart in charts(series) { (chart.figure()) } }
        }
    }
}

/// A chart for each unit that a series has.
fn charts(series: &Series) -> Vec<Chart> {
    let mut units: Vec<Unit> = Vec::new();
    for column in &series.columns {
        if !units.contains(&column.unit) {
            units.push(column.unit);
        }
    }
    let of_unit = |unit: Unit| {
        let columns = series.columns.iter().filter(|column| column.unit == unit);
        let lines: Vec<Line> = columns
            .map(|column| line(&column.name, &series.x, column))
            .collect();
        let names: Vec<&str> = lines.iter().map(|line| line.name.as_str()).collect();
        let title = format!("{}: {}", series.title, names.join(", "));
        chart_of(&title, &series.x, unit, lines)
    };
    units.into_iter().map(of_unit).collect()
}

fn chart_of(title: &str, x: &Column, unit: Unit, lines: Vec<Line>) -> Chart {
    let y_title = match unit {
        Unit::Nanoseconds => "latency, ms".to_owned(),
        Unit::PerSecond => "rate, 1/s".to_owned(),
        _ => unit.label().to_owned(),
    };
    Chart {
        title: capital(title),
        x_title: x.heading(),
        y_title,
        x_scale: Scale::Linear,
        y_scale: match unit {
            Unit::Nanoseconds => Scale::Log,
            _ => Scale::Linear,
        },
        lines,
    }
}

fn line(name: &str, x: &Column, y: &Column) -> Line {
    let places = x.values.iter().enumerate();
    let points = places.filter_map(|(row, place)| {
        let value = y.values.get(row).copied().flatten();
        Some(Point {
            x: x.unit.scaled((*place)?),
            y: value.map(|value| y.unit.scaled(value)),
            x_text: x.text(row),
            y_text: y.text(row),
        })
    });
    Line {
        name: name.to_owned(),
        points: points.collect(),
    }
}

fn figures(table: &Table) -> Markup {
    html! {
        div.wide {
            table {
                thead {
                    tr {
                        th scope="col" { (table.title) }
                        @for column in &table.columns { th scope="col" { (column.heading()) } }
                    }
                }
                tbody {
                    @for (row, name) in table.rows.iter().enumerate() {
                        tr {
                            th scope="row" { (name) }
                            @for column in &table.columns { td { (column.text(row)) } }
                            @if let Some(remark) = table.remarks.get(row).filter(|text| !text.is_empty()) {
                                td { (remark) }
                            }
                        }
                    }
                }
            }
        }
    }
}

type Fact = (String, String);

fn facts(title: &str, facts: &[Fact]) -> Markup {
    html! {
        @if !facts.is_empty() {
            section {
                h3 { (title) }
                table.facts {
                    tbody {
                        @for (name, value) in facts { tr { th scope="row" { (name) } td { (value) } } }
                    }
                }
            }
        }
    }
}

fn fact(name: &str, value: impl ToString) -> Fact {
    (name.to_owned(), value.to_string())
}

/// What client, broker and machine did.
fn sides(report: &Report) -> Markup {
    let mut work = Vec::new();
    if let Some(sending) = &report.sending {
        work.extend([
            fact("messages sent", sending.messages),
            fact("batches", sending.batches),
            fact("requests", sending.requests),
            fact("retries of producers", sending.retries),
        ]);
    }
    if let Some(reading) = &report.reading {
        work.extend([
            fact("messages read", reading.messages),
            fact("of others", reading.others),
            fact("fetches", reading.fetches),
            fact("retries of consumers", reading.retries),
        ]);
    }
    let client = &report.client;
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    work.extend([
        fact("threads", client.threads),
        fact("cores used", format!("{:.2}", client.cores)),
        fact("busiest thread", percent(client.worst_thread.cpu)),
    ]);
    work.extend(
        client
            .worst_thread
            .queued
            .map(|queued| fact("longest wait for a core", percent(queued))),
    );
    let mut machine = vec![fact("during the run", text::activity(&client.machine))];
    if let Some(check) = &report.check {
        machine.push(fact("before the run", text::activity(&check.before)));
        machine.push(fact("floor", text::floors(check)));
    }
    html! {
        (facts("Client", &work))
        (facts("Machine", &machine))
        @for known in &report.server.facts {
            (facts(&known.of, &known.facts.clone().into_iter().collect::<Vec<_>>()))
        }
    }
}

fn environment_of(document: &Document) -> Markup {
    let here = &document.environment;
    let environment = [
        fact("time", &here.time),
        fact(
            "tidegate-loadgen",
            format!("{} {}", here.version, here.revision),
        ),
        fact("kernel", &here.kernel),
        fact("CPU", &here.cpu),
        fact("cores", here.cores),
        fact(
            "frequency governor",
            here.governor.as_deref().unwrap_or("none to be seen"),
        ),
    ];
    html! {
        (facts("Environment", &environment))
        (facts("Options", &options(&document.options)))
    }
}

/// Options by their names, those within others with both names.
pub(super) fn options(value: &Value) -> Vec<Fact> {
    let mut facts = Vec::new();
    flatten("", value, &mut facts);
    facts
}

fn flatten(name: &str, value: &Value, facts: &mut Vec<Fact>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let name = match name {
                    "" => field.clone(),
                    name => format!("{name}.{field}"),
                };
                flatten(&name, value, facts);
            }
        }
        Value::Null => facts.push(fact(name, "-")),
        Value::String(text) => facts.push(fact(name, text)),
        other => facts.push(fact(name, other)),
    }
}

/// A comparison as a page.
pub fn comparison_page(comparison: &Comparison) -> String {
    let names: Vec<&str> = comparison
        .runs
        .iter()
        .map(|run| run.name.as_str())
        .collect();
    let title = format!("Comparison: {}", names.join(", "));
    let body = html! {
        h1 { (title) }
        ul {
            @for run in &comparison.runs {
                li { strong { (run.name) } ": " (run.document.report.scenario) ", "
                    (run.document.report.description) "; " (run.document.environment.time) " "
                    (verdict(&run.document.report)) }
            }
        }
        (trust_of_each(comparison))
        (facts_that_differ(comparison))
        @for table in comparison.tables() {
            h2 { (capital(&table.title)) }
            (compared(&table))
        }
        h2 { "Curves" }
        div.charts {
            @for of in comparison.latencies() {
                (curve(&format!("{}: latency by percentile", capital(&of)), &comparison.histograms(&of)).figure())
            }
        }
        h2 { "Over time" }
        div.charts { @for chart in overlaid(comparison) { (chart.figure()) } }
    };
    whole(&title, &body)
}

fn facts_that_differ(comparison: &Comparison) -> Markup {
    let differ = comparison.differences();
    html! {
        h2 { "What differs" }
        @if differ.is_empty() { p { "The options and the environment are the same." } } @else {
            div.wide {
                table.facts {
                    thead {
                        tr {
                            th scope="col" {}
                            @for run in &comparison.runs { td { (run.name) } }
                        }
                    }
                    tbody {
                        @for (name, values) in &differ {
                            tr { th scope="row" { (name) } @for value in values { td { (value) } } }
                        }
                    }
                }
            }
        }
    }
}

fn trust_of_each(comparison: &Comparison) -> Markup {
    let runs = comparison.runs.iter();
    let doubts = runs.flat_map(|run| {
        let doubts = run.document.report.doubts.iter();
        doubts.map(|doubt| (run.name.as_str(), doubt))
    });
    let doubts: Vec<_> = doubts.collect();
    html! {
        @if !doubts.is_empty() {
            p.verdict.doubt { (DOUBT) }
            ul {
                @for (name, doubt) in doubts {
                    li { strong { (name) } ", " (doubt.about()) ": " (doubt.reason) }
                }
            }
        }
    }
}

fn compared(table: &super::compare::Compared) -> Markup {
    let cell = |cell: &Cell| {
        html! { td { (cell.text) " " small { (cell.ratio.as_deref().unwrap_or_default()) } } }
    };
    html! {
        div.wide {
            table {
                thead {
                    tr {
                        th scope="col" {}
                        @for name in &table.columns { th scope="col" { (name) " " small {} } }
                    }
                }
                tbody {
                    @for (run, cells) in &table.rows {
                        tr { th scope="row" { (run) } @for value in cells { (cell(value)) } }
                    }
                }
            }
        }
    }
}

/// The first run's series, each column with those of the other runs.
fn overlaid(comparison: &Comparison) -> Vec<Chart> {
    let mut charts = Vec::new();
    let Some(first) = comparison.runs.first() else {
        return charts;
    };
    for series in &first.document.report.series {
        for column in &series.columns {
            let of_run = |run: &super::compare::Compare| {
                let all = run.document.report.series.iter();
                let same = all.clone().find(|other| other.title == series.title)?;
                Some(line(&run.name, &same.x, same.column(&column.name)?))
            };
            let lines = comparison.runs.iter().filter_map(of_run).collect();
            let title = format!("{}: {}", series.title, column.name);
            charts.push(chart_of(&title, &series.x, column.unit, lines));
        }
    }
    charts
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters
        .next()
        .map(|letter| letter.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

/// A whole number with a narrow space at every third digit.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 && digits.len() > 4 {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests;
