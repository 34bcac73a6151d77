//! Where the programs under test are.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// kube-store: in `KEELSON_BIN`, or in the build directory the running test lies in.
pub fn kube_store() -> anyhow::Result<PathBuf> {
    let dir = match std::env::var_os("KEELSON_BIN") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let this = std::env::current_exe().context("find this test")?;
            let parent = this.parent().and_then(Path::parent);
            parent.context("this test lies in no build directory")?.to_owned()
        }
    };
    let program = dir.join("kube-store");
    if !program.is_file() {
        bail!(
            "{} is missing: cargo build -p kube-store, or set KEELSON_BIN",
            program.display()
        );
    }
    Ok(program)
}

/// The directory of etcd and etcdctl 3.5, the reference.
pub fn reference() -> anyhow::Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../reference/fetch.sh");
    let lock = std::env::temp_dir().join("keelson-reference.lock");
    // Tests run side by side: one fetches, the others find it there.
    let output = Command::new("flock")
        .arg(lock)
        .arg(script)
        .arg("etcd")
        .output()
        .context("run tests/reference/fetch.sh")?;
    if !output.status.success() {
        bail!(
            "tests/reference/fetch.sh: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

/// Runs a program to its end; its output, or both outputs in the error.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "{command:?}: {}\n{out}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(out)
}
