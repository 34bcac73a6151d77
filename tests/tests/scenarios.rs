//! Runs every transcript of `tests/scenarios` and `tests/faults` as a test of its own.
//!
//! Needs a cluster: `KEELSON_DIR` is the directory of one that `deploy/up.sh` started (`tests/run.sh` does). Without
//! it every test fails: none is skipped in silence.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use keelson_tests::transcript;
use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let arguments = Arguments::from_args();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut trials = Vec::new();
    for suite in ["scenarios", "faults"] {
        let mut files: Vec<PathBuf> = std::fs::read_dir(root.join(suite))
            .expect("the suite's directory is part of the tree")
            .map(|entry| entry.expect("a readable directory entry").path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "txt"))
            .collect();
        files.sort();
        for file in files {
            let name = file
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let title = format!("{suite}::{name}");
            trials.push(Trial::test(title, move || {
                scenario(&name, &file).map_err(|error| Failed::from(format!("{error:#}")))
            }));
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn scenario(name: &str, file: &Path) -> anyhow::Result<()> {
    let Ok(dir) = std::env::var("KEELSON_DIR") else {
        bail!("KEELSON_DIR names no cluster: run tests/run.sh, or deploy/up.sh and set it to that directory");
    };
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let steps = transcript::parse(&text).with_context(|| format!("parse {}", file.display()))?;
    let work = std::env::temp_dir().join(format!("keelson-scenario-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&work).context("make a directory for the scenario")?;
    let namespace = format!("scn-{name}");
    let kubeconfig = work.join("kubeconfig");
    std::fs::copy(Path::new(&dir).join("admin.conf"), &kubeconfig)
        .context("copy the administrator's kubeconfig")?;
    let env: Vec<(String, String)> = [
        ("KUBECONFIG", kubeconfig.display().to_string()),
        ("DIR", dir),
        ("NS", namespace.clone()),
        ("REPO", concat!(env!("CARGO_MANIFEST_DIR"), "/..").to_owned()),
        ("CLIENTS", built("clients")),
        ("CLIENT_KUBE_RS", env!("CARGO_BIN_EXE_client-kube-rs").to_owned()),
        ("HOME", work.display().to_string()),
        ("LC_ALL", "C".to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    kubectl(&env, &["create", "namespace", &namespace])?;
    kubectl(
        &env,
        &["config", "set-context", "--current", "--namespace", &namespace],
    )?;
    let outcome = transcript::run(&steps, &work, &env);
    kubectl(&env, &["delete", "namespace", &namespace, "--wait=false"])?;
    std::fs::remove_dir_all(&work).context("remove the scenario's directory")?;
    outcome
}

/// A directory among what is built or fetched for the tests.
fn built(name: &str) -> String {
    let target = std::env::var("CARGO_TARGET_DIR")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../target").to_owned());
    format!("{target}/{name}")
}

fn kubectl(env: &[(String, String)], arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("kubectl")
        .args(arguments)
        .envs(env.iter().cloned())
        .output()
        .context("run kubectl")?;
    if !output.status.success() {
        bail!(
            "kubectl {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
