//! tmpfs and bind mounts of volumes, and their removal.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs;
use std::io;
use std::path::Path;

/// Mounts a tmpfs on `dir` unless one is there.
pub fn tmpfs(dir: &Path, size_bytes: Option<i64>) -> io::Result<()> {
    if is_mount_point(dir) {
        return Ok(());
    }
    let options = size_bytes.filter(|s| *s > 0).map(|s| format!("size={s}"));
    mount(
        Some("tmpfs"),
        dir,
        Some("tmpfs"),
        MsFlags::empty(),
        options.as_deref(),
    )
    .map_err(io::Error::from)
}

/// Bind-mounts `source` on `target`, following no links beyond what the caller resolved.
pub fn bind(source: &Path, target: &Path) -> io::Result<()> {
    mount(
        Some(source),
        target,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )
    .map_err(io::Error::from)
}

/// Unmounts everything at or below `dir`, deepest first.
pub fn unmount_below(dir: &Path) -> io::Result<()> {
    let mut points: Vec<String> = mount_points()?
        .into_iter()
        .filter(|p| Path::new(p).starts_with(dir))
        .collect();
    points.sort_by_key(|p| std::cmp::Reverse(p.len()));
    for point in points {
        umount2(point.as_str(), MntFlags::UMOUNT_NOFOLLOW)
            .or_else(|_| umount2(point.as_str(), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW))
            .map_err(io::Error::from)?;
    }
    Ok(())
}

pub fn is_mount_point(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(own), Some(Ok(parent))) = (fs::symlink_metadata(dir), dir.parent().map(fs::symlink_metadata))
    else {
        return false;
    };
    own.dev() != parent.dev()
}

fn mount_points() -> io::Result<Vec<String>> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape)
        .collect())
}

/// Spaces and the like are octal escapes in mountinfo.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}
