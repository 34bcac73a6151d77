//! Transcripts: commands with the output a person is to see.
//!
//! ```text
//! # a comment
//! $ kubectl get configmap a -o name
//! configmap/a
//! $~ kubectl get pods --no-headers     the command is run again until its output matches, within a limit
//! web-[..]   1/1   Running   0   [..]
//! $? kubectl get configmap b           the command is to fail (any exit code but 0)
//! Error from server (NotFound): configmaps "b" not found
//! ```
//! In expected lines `[..]` stands for any text within the line and a run of blanks for any run of blanks (columns
//! are as wide as their longest cell); a line `...` stands for any number of lines. Standard output and error are
//! compared together. A scenario runs in an empty directory and a namespace of its own.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// How long a `$~` step may take to match.
pub const EVENTUALLY: Duration = Duration::from_secs(90);
/// Pause between two tries of a `$~` step.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// How a command's outcome is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It succeeds with this output.
    Once,
    /// It comes to succeed with this output.
    Eventually,
    /// It fails with this output.
    Fails,
}

/// One command with its expected output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Line of the command in the file, from 1.
    pub line: usize,
    pub mode: Mode,
    pub command: String,
    pub expected: Vec<String>,
}

/// Parses a transcript. A command goes on in the next line after a backslash, and a here-document to its end mark.
pub fn parse(text: &str) -> anyhow::Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let start = [
            ("$~ ", Mode::Eventually),
            ("$? ", Mode::Fails),
            ("$ ", Mode::Once),
        ]
        .into_iter()
        .find_map(|(mark, mode)| Some((line.strip_prefix(mark)?, mode)));
        match start {
            Some((first, mode)) => {
                let mut command = first.to_owned();
                while command.ends_with('\\') {
                    let Some((_, more)) = lines.next() else {
                        bail!("line {}: the command does not end", index + 1)
                    };
                    command.push('\n');
                    command.push_str(more);
                }
                if let Some(mark) = here_mark(first) {
                    for (_, more) in lines.by_ref() {
                        command.push('\n');
                        command.push_str(more);
                        if more == mark {
                            break;
                        }
                    }
                }
                steps.push(Step {
                    line: index + 1,
                    mode,
                    command,
                    expected: Vec::new(),
                });
            }
            None if line.starts_with('#') => {}
            None => match steps.last_mut() {
                Some(step) => step.expected.push(line.to_owned()),
                None if line.trim().is_empty() => {}
                None => bail!("line {}: output before the first command", index + 1),
            },
        }
    }
    for step in &mut steps {
        while step.expected.last().is_some_and(|line| line.trim().is_empty()) {
            step.expected.pop();
        }
    }
    Ok(steps)
}

/// The end mark of a here-document: `cat <<END`.
fn here_mark(command: &str) -> Option<&str> {
    let (_, rest) = command.split_once("<<")?;
    rest.split_whitespace()
        .next()
        .map(|mark| mark.trim_matches(['\'', '"']))
}

/// Whether lines are as expected.
pub fn matches(expected: &[String], actual: &[String]) -> bool {
    match expected.split_first() {
        None => actual.is_empty(),
        Some((first, rest)) if first.trim() == "..." => {
            (0..=actual.len()).any(|skipped| matches(rest, &actual[skipped..]))
        }
        Some((first, rest)) => match actual.split_first() {
            Some((line, more)) => line_matches(first, line) && matches(rest, more),
            None => false,
        },
    }
}

fn line_matches(expected: &str, actual: &str) -> bool {
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (expected, actual) = (squeeze(expected), squeeze(actual));
    let mut parts = expected.split("[..]");
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = actual.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Runs all steps in `dir` with `env`; the first that differs ends it, with both outputs in the error.
pub fn run(steps: &[Step], dir: &Path, env: &[(String, String)]) -> anyhow::Result<()> {
    for step in steps {
        run_step(step, dir, env).with_context(|| format!("line {}: $ {}", step.line, step.command))?;
    }
    Ok(())
}

fn run_step(step: &Step, dir: &Path, env: &[(String, String)]) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let (success, output) = execute(&step.command, dir, env)?;
        let lines: Vec<String> = output.trim_end().lines().map(str::to_owned).collect();
        let as_told = success != (step.mode == Mode::Fails);
        if as_told && matches(&step.expected, &lines) {
            return Ok(());
        }
        if step.mode != Mode::Eventually || began.elapsed() > EVENTUALLY {
            let how = if success { "succeeded" } else { "failed" };
            bail!(
                "{how} with\n{}\n--- expected\n{}",
                lines.join("\n"),
                step.expected.join("\n")
            );
        }
        std::thread::sleep(TRY_AGAIN);
    }
}

fn execute(command: &str, dir: &Path, env: &[(String, String)]) -> anyhow::Result<(bool, String)> {
    let output = Command::new("bash")
        .args(["-c", &format!("exec 2>&1\nset -o pipefail\n{command}")])
        .current_dir(dir)
        .envs(env.iter().cloned())
        .stdin(Stdio::null())
        .output()
        .context("run bash")?;
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn wildcards_match_what_they_stand_for() {
        assert!(matches(
            &lines("web-[..]  1/1   Running"),
            &lines("web-abc   1/1 Running")
        ));
        assert!(!matches(
            &lines("web-[..] 1/1 Running"),
            &lines("web-abc 0/1 Running")
        ));
        assert!(matches(&lines("...\nb"), &lines("a\nb")));
        assert!(matches(&lines("a\n...\nb\n..."), &lines("a\nx\ny\nb")));
        assert!(!matches(&lines("a"), &lines("a\nb")));
        assert!(!line_matches("a[..]b", "a"));
    }

    #[test]
    fn steps_parse_with_continuations_and_here_documents() {
        let text = "# why\n$ cat <<END\nx\nEND\nx\n\n$? false\n$~ a \\\n  b\nout\n";
        let steps = parse(text).unwrap();
        assert_eq!(steps.len(), 3);
        assert_eq!(steps[0].command, "cat <<END\nx\nEND");
        assert_eq!(steps[0].expected, ["x"]);
        assert_eq!((steps[1].mode, steps[2].mode), (Mode::Fails, Mode::Eventually));
        assert_eq!(steps[2].command, "a \\\n  b");
    }

    #[test]
    fn a_step_that_differs_is_an_error() {
        let dir = std::env::temp_dir();
        assert!(run(&parse("$ echo a\na").unwrap(), &dir, &[]).is_ok());
        assert!(run(&parse("$ echo a\nb").unwrap(), &dir, &[]).is_err());
        assert!(run(&parse("$ false\n").unwrap(), &dir, &[]).is_err());
        assert!(run(&parse("$? echo a; false\na").unwrap(), &dir, &[]).is_ok());
    }
}
