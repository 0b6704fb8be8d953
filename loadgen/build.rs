//! Which revision a build is of, for the reports: `TIDEGATE_REVISION`, empty where there is no git.

use std::process::Command;

fn main() {
    let revision = git(&[
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
        "--exclude=*",
    ]);
    println!(
        "cargo::rustc-env=TIDEGATE_REVISION={}",
        revision.unwrap_or_default()
    );
    println!("cargo::rerun-if-changed=src");
    // Whatever moves HEAD writes a line to its log.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
