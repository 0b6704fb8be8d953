//! The configuration as text: what is in force, and the reference of all options.

use std::fmt::Write;

use super::OPTIONS;
use super::layers::Resolved;
use super::option::Opt;

/// Values longer than this push their own comment out, not everybody's.
const MAX_ALIGNED_WIDTH: usize = 68;

impl Resolved {
    /// What is in force, as a TOML file that says behind each value where it came from.
    pub fn to_toml(&self) -> String {
        let lines: Vec<String> = {
            let width = OPTIONS.iter().map(|opt| opt.key.len()).max().unwrap_or(0);
            let settings = self.settings.iter();
            settings
                .map(|s| format!("{:width$} = {}", s.opt.key, s.value))
                .collect()
        };
        let widths = lines.iter().map(|line| line.chars().count());
        let width = widths
            .filter(|&width| width <= MAX_ALIGNED_WIDTH)
            .max()
            .unwrap_or(0);
        let mut text = String::new();
        for warning in self.warnings() {
            line(&mut text, format_args!("# warning: {warning}"));
        }
        let mut section = "";
        for (assignment, setting) in lines.iter().zip(&self.settings) {
            if section != setting.opt.section {
                section = setting.opt.section;
                let gap = if text.is_empty() { "" } else { "\n" };
                line(&mut text, format_args!("{gap}# {section}"));
            }
            line(
                &mut text,
                format_args!("{assignment:width$}  # {}", setting.origin),
            );
        }
        text
    }
}

/// All options as Markdown: `docs/configuration.md`.
pub fn reference() -> String {
    let mut text = String::from(INTRODUCTION);
    let mut section = "";
    for opt in OPTIONS {
        if section != opt.section {
            section = opt.section;
            line(&mut text, format_args!("\n## {section}\n"));
            line(
                &mut text,
                format_args!("| Key | Default | Values | Meaning |"),
            );
            line(&mut text, format_args!("|---|---|---|---|"));
        }
        row(&mut text, opt);
    }
    text
}

const INTRODUCTION: &str = "\
# Configuration

Every option can be given in three ways. The key `flush`, for example, is

- the flag `--flush os` of `tidegate serve`,
- the environment variable `TIDEGATE_FLUSH=os`,
- the line `flush = \"os\"` in the TOML file that `--config FILE` or `TIDEGATE_CONFIG` names.

A flag goes before the environment, the environment before the file, the file before the default. A
name or value that is not known is an error. `tidegate config` prints what is in force and where each
value came from.

Sizes are bytes, or have a suffix: `64KiB`, `10MiB`, `1GiB`. Times are milliseconds, or have a suffix:
`500ms`, `30s`, `10m`. In the file, values with a suffix are strings.
";

fn row(text: &mut String, opt: &Opt) {
    let values = opt.form.accepts();
    line(
        text,
        format_args!(
            "| `{}` | {} | {values} | {} |",
            opt.key,
            opt.default_text(),
            opt.meaning()
        ),
    );
}

/// Writing to a `String` cannot fail.
fn line(text: &mut String, args: std::fmt::Arguments<'_>) {
    let _ = writeln!(text, "{args}");
}
