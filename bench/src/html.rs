//! All figures as one page that needs nothing beside it.

use std::fmt::{self, Write};

use crate::Results;
use crate::goals::Verdict;
use crate::life::{FACTS, Life};
use crate::report::{Figure, Summary, by_row, cpu_unit};
use crate::rows::Row;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1c2430; --dim: #667085; --line: #e4e7ec; --page: #fff;
  --card: #f8f9fb; --bar: #9db7e8; --own: #2f6fed; --good: #12805c; --bad: #c4320a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --dim: #98a2b3; --line: #2c3442;
  --page: #12161d; --card: #1a202a; --bar: #3f567f; --own: #5b8ff9; --good: #4cc38a; --bad: #ff8a65; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; }
.dim { color: var(--dim); } .good { color: var(--good); } .bad { color: var(--bad); }
.cards { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.5rem 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1.2rem; }
.card b { display: block; font-size: 1.7rem; line-height: 1.3; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: .8rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--dim); font-weight: 500; } th:first-child, td:first-child, .text { text-align: left; }
small { color: var(--dim); display: block; line-height: 1.1; }
.bar { background: var(--bar); height: .6rem; border-radius: 3px; min-width: 2px; }
.own .bar { background: var(--own); } .own td:first-child { font-weight: 600; }
td.chart { width: 22%; min-width: 8rem; }
";

/// The page.
pub fn page(results: &Results) -> String {
    let mut page = String::new();
    // Writing to a string does not fail.
    let _ = write_page(&mut page, results);
    page
}

fn write_page(out: &mut String, results: &Results) -> fmt::Result {
    let Results {
        environment,
        lives,
        rows,
        verdicts,
    } = results;
    let words = Escaped(&environment.words());
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>Tidegate beside its peers</title><style>{STYLE}</style></head><body>\n\
         <h1>Tidegate beside its peers</h1>\n<p class=\"dim\">{}</p>\n",
        words.to_string().replace('`', "")
    )?;
    if let Some(warning) = environment.warning() {
        writeln!(out, "<p class=\"bad\">{}</p>", Escaped(&warning))?;
    }
    write_cards(out, rows, verdicts)?;
    out.push_str(
        "<p>Medians of all rounds, with the least and the most below. All peers ran in turns under the \
         same load; ratios are taken round by round.</p>\n",
    );
    for (row, of_row) in by_row(rows) {
        write_row(out, row, &of_row)?;
        write_goals(out, verdicts.iter().filter(|v| v.row == row.name))?;
    }
    if !lives.is_empty() {
        write_lives(out, lives)?;
        write_goals(out, verdicts.iter().filter(|v| v.row == crate::life::ROW))?;
    }
    out.push_str("</body></html>\n");
    Ok(())
}

fn write_cards(out: &mut String, rows: &[Summary], verdicts: &[Verdict]) -> fmt::Result {
    let met = verdicts.iter().filter(|v| v.met).count();
    write!(
        out,
        "<div class=\"cards\"><div class=\"card\"><b>{met} of {}</b>goals met</div>",
        verdicts.len()
    )?;
    for (row, of_row) in by_row(rows) {
        let own = of_row.iter().find(|s| s.peer.starts_with("tidegate"));
        let against = own.and_then(|own| Some((own, own.against_kafka(&of_row)?.0)));
        if let Some((own, ratio)) = against.filter(|(_, ratio)| !ratio.rounds.is_empty()) {
            write!(
                out,
                "<div class=\"card\"><b>{:.1} x</b>Kafka in {}<small>{}</small></div>",
                ratio.median,
                Escaped(row.name),
                Escaped(own.peer)
            )?;
        }
    }
    out.push_str("</div>\n");
    Ok(())
}

fn write_row(out: &mut String, row: &Row, of_row: &[&Summary]) -> fmt::Result {
    write!(
        out,
        "<h2>{}</h2>\n<p class=\"dim\">{}</p>\n<div class=\"wide\"><table><tr><th>peer<th class=\"text\">requests/s\
         <th><th>MB/s<th>p50 ms<th>p99 ms<th>p99.9 ms<th>{}<th>RSS MB<th>x Kafka<th>CPU / Kafka</tr>\n",
        Escaped(row.name),
        Escaped(row.what),
        cpu_unit(row)
    )?;
    let most = of_row.iter().map(|s| s.requests_per_second.median);
    let most = most.fold(f64::MIN_POSITIVE, f64::max);
    for s in of_row {
        let own = if s.peer.starts_with("tidegate") {
            " class=\"own\""
        } else {
            ""
        };
        write!(
            out,
            "<tr{own}><td>{}<small>from {}</small>",
            Escaped(s.peer),
            Escaped(s.promise)
        )?;
        if let Some(failure) = &s.failure {
            write!(
                out,
                "<small class=\"bad\">cannot: {}</small>",
                Escaped(failure)
            )?;
        }
        if s.cpu.rounds.is_empty() {
            out.push_str("<td colspan=\"10\"></tr>\n");
            continue;
        }
        let percent = s.requests_per_second.median / most * 100.0;
        write!(
            out,
            "<td class=\"chart\"><div class=\"bar\" style=\"width:{percent:.1}%\"></div>"
        )?;
        let (rate, cpu) = s.against_kafka(of_row).unwrap_or_default();
        let figures = [
            &s.requests_per_second,
            &s.megabytes_per_second,
            &s.p50_ms,
            &s.p99_ms,
            &s.p999_ms,
            &s.cpu,
            &s.resident_megabytes,
            &rate,
            &cpu,
        ];
        figures
            .into_iter()
            .try_for_each(|figure| write_cell(out, figure))?;
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n");
    Ok(())
}

fn write_cell(out: &mut String, figure: &Figure) -> fmt::Result {
    if figure.rounds.is_empty() {
        return out.write_str("<td>");
    }
    let decimals = if figure.median < 20.0 { 2 } else { 0 };
    write!(
        out,
        "<td>{:.decimals$}<small>{:.decimals$}-{:.decimals$}</small>",
        figure.median, figure.min, figure.max
    )
}

fn write_goals<'a>(out: &mut String, verdicts: impl Iterator<Item = &'a Verdict>) -> fmt::Result {
    let mut verdicts = verdicts.peekable();
    if verdicts.peek().is_none() {
        return Ok(());
    }
    out.push_str("<table><tr><th>goal of<th class=\"text\"><th>measured<th></tr>\n");
    for verdict in verdicts {
        let (class, met) = match verdict.met {
            true => ("good", "met"),
            false => ("bad", "not met"),
        };
        write!(
            out,
            "<tr><td>{}<td class=\"text\">{}",
            Escaped(verdict.peer),
            Escaped(&verdict.goal)
        )?;
        write_cell(out, &verdict.figure)?;
        writeln!(out, "<td class=\"{class}\">{met}</tr>")?;
    }
    out.push_str("</table>\n");
    Ok(())
}

fn write_lives(out: &mut String, lives: &[Life]) -> fmt::Result {
    out.push_str("<h2>What a process costs</h2>\n<div class=\"wide\"><table><tr><th>");
    lives
        .iter()
        .try_for_each(|life| write!(out, "<th>{}", Escaped(life.peer)))?;
    out.push_str("</tr>\n");
    for fact in FACTS {
        write!(out, "<tr><td>{}", Escaped(fact.name))?;
        for life in lives {
            match (fact.value)(life) {
                Some(value) => write!(out, "<td>{value:.1}")?,
                None => out.push_str("<td>"),
            }
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n");
    Ok(())
}

/// Text as it may stand in a page.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;
    use crate::peer::Kind;
    use crate::rows::ROWS;

    #[test]
    fn the_page_tells_figures_goals_and_failures_and_needs_nothing_else() {
        let of = |kind, rate, failure: Option<&str>| Summary {
            failure: failure.map(str::to_owned),
            megabytes_per_second: Figure::of(vec![rate]),
            ..Summary::new(&ROWS[0], kind, &[], None)
        };
        let mut own = of(Kind::TidegateOs, 50.0, None);
        own.cpu = Figure::of(vec![1.5]);
        let mut kafka = of(Kind::Kafka, 10.0, None);
        kafka.cpu = Figure::of(vec![8.0]);
        let rows = vec![
            own,
            kafka,
            of(Kind::GoGateway, 0.0, Some("it said <no> & left")),
        ];
        let results = Results {
            environment: Environment::here(),
            lives: Vec::new(),
            verdicts: crate::goals::judge(&rows),
            rows,
        };
        let page = page(&results);
        assert!(page.contains("<b>5.0 x</b>Kafka in produce-64x1k"));
        assert!(page.contains("throughput at least 4 x kafka"));
        assert!(page.contains("cannot: it said &lt;no&gt; &amp; left"));
        assert!(!page.contains("http") && !page.contains("src="));
    }
}
