//! `tidegate check`: what this host offers to a gateway of the given configuration, as one table, with
//! the way out beside what falls short. It starts nothing, and leaves nothing behind: what it writes to
//! see how long that takes, it removes.
//!
//! Reading and judging are apart: a judgement is a function of what was found.

use std::fmt;

use serde::Serialize;

use crate::config::{Resolved, Store};

mod addresses;
mod disk;
mod host;
mod seaweedfs;

/// What was found of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    pub item: String,
    pub state: State,
    pub found: String,
    /// What it should be, or why it matters.
    pub wanted: String,
    /// Where the state is not `ok`.
    pub fix: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    /// The gateway runs, less well than it could.
    Warn,
    /// The gateway does not start, or does not work.
    Fail,
}

impl Item {
    fn ok(item: impl Into<String>, found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Item {
            item: item.into(),
            state: State::Ok,
            found: found.into(),
            wanted: wanted.into(),
            fix: None,
        }
    }

    /// It falls short, if `short`.
    fn but(self, state: State, short: bool, fix: impl Into<String>) -> Self {
        match short && state > self.state {
            true => Item {
                state,
                fix: Some(fix.into()),
                ..self
            },
            false => self,
        }
    }
}

/// All that was found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Nothing fails.
    pub ok: bool,
    pub items: Vec<Item>,
}

impl Report {
    fn new(items: Vec<Item>) -> Self {
        Report {
            ok: items.iter().all(|item| item.state != State::Fail),
            items,
        }
    }

    /// As one JSON object.
    pub fn to_json(&self) -> String {
        // Nothing in it can be refused.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

/// Looks at everything. It takes a second or so, most of it for the disk.
pub fn check(resolved: &Resolved) -> Report {
    let config = &resolved.config;
    let mut items = host::check(config);
    items.extend(match config.store {
        Store::Local => disk::check(config),
        Store::SeaweedMq => seaweedfs::check(config),
    });
    items.extend(addresses::check(config));
    let warning = |text: String| {
        Item::ok("configuration", text, "nothing to warn of").but(
            State::Warn,
            true,
            "tidegate config shows where each value comes from",
        )
    };
    items.extend(resolved.warnings().into_iter().map(warning));
    Report::new(items)
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail => "fail",
        }
    }
}

/// The table.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heading = ["ITEM", "STATE", "FOUND", "WANTED", "FIX"].map(str::to_owned);
        let row = |item: &Item| {
            let fix = item.fix.clone().unwrap_or_default();
            let state = item.state.name().to_owned();
            [
                item.item.clone(),
                state,
                item.found.clone(),
                item.wanted.clone(),
                fix,
            ]
        };
        let rows: Vec<_> = std::iter::once(heading)
            .chain(self.items.iter().map(row))
            .collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
        let widths: Vec<_> = (0..4).map(|column| width(column).unwrap_or(0)).collect();
        for [item, state, found, wanted, fix] in &rows {
            let line = format!(
                "{item:0$}  {state:1$}  {found:2$}  {wanted:3$}  {fix}",
                widths[0], widths[1], widths[2], widths[3]
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let well = Item::ok("kernel", "6.1", "5.10 or newer").but(State::Fail, false, "no");
        let short = Item::ok("swappiness", "60", "1").but(State::Warn, true, "sysctl");
        let fails = Item::ok("lock", "held", "free")
            .but(State::Fail, true, "stop it")
            .but(State::Warn, true, "less important");
        Report::new(vec![well, short, fails])
    }

    #[test]
    fn the_table_has_the_fix_beside_what_falls_short() {
        let expected = "\
ITEM        STATE  FOUND  WANTED         FIX
kernel      ok     6.1    5.10 or newer
swappiness  warn   60     1              sysctl
lock        fail   held   free           stop it
";
        assert_eq!(report().to_string(), expected);
    }

    #[test]
    fn one_failure_is_enough_and_warnings_are_not() {
        let mut report = report();
        assert!(!report.ok);
        report.items.pop();
        assert!(Report::new(report.items).ok);
    }
}
