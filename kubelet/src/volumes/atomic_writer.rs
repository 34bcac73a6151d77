//! Puts a set of files in place at once: a timestamped directory, a `..data` link switched by rename, user-visible links.
//!
//! Layout and algorithm are upstream's AtomicWriter's, so that programs which watch `..data` behave the same:
//! `file -> ..data/file`, `..data -> ..2026_01_02_03_04_05.123456789`.

use super::payload::{File, Payload};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// Owner and group of the files, where they are not root's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

/// Writes `payload` below `dir`; true when anything changed.
pub fn write(dir: &Path, payload: &Payload, owner: Owner, now: Timestamp) -> io::Result<bool> {
    let current = fs::read_link(dir.join(DATA)).ok();
    if let Some(current) = &current
        && same(&dir.join(current), payload, owner)
    {
        return Ok(false);
    }
    let name = format!(
        "..{}.{:09}",
        now.strftime("%Y_%m_%d_%H_%M_%S"),
        now.subsec_nanosecond()
    );
    let fresh = dir.join(&name);
    fs::create_dir(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    for (path, file) in payload {
        write_file(&fresh, path, file, owner)?;
    }
    let staged = dir.join(DATA_NEW);
    let _ = fs::remove_file(&staged);
    symlink(&name, &staged)?;
    fs::rename(&staged, dir.join(DATA))?;
    link_entries(dir, payload)?;
    if let Some(old) = current {
        fs::remove_dir_all(dir.join(old)).or_else(ignore_missing)?;
    }
    Ok(true)
}

fn write_file(dir: &Path, path: &str, file: &File, owner: Owner) -> io::Result<()> {
    let target = dir.join(path);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(&target, &file.data)?;
    fs::set_permissions(
        &target,
        fs::Permissions::from_mode(effective_mode(file.mode, owner)),
    )?;
    if owner != Owner::default() {
        chown(&target, owner.uid, owner.gid)?;
    }
    Ok(())
}

/// With an fsGroup the group may read what the owner may read.
fn effective_mode(mode: u32, owner: Owner) -> u32 {
    if owner.gid.is_some() {
        mode | (mode >> 3 & 0o050) | 0o040
    } else {
        mode
    }
}

/// One link per first path element, and none for elements that are gone.
fn link_entries(dir: &Path, payload: &Payload) -> io::Result<()> {
    let wanted: BTreeSet<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &wanted {
        match symlink(Path::new(DATA).join(name), dir.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
    }
    for entry in fs::read_dir(dir)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !wanted.contains(name.as_ref()) && entry.file_type()?.is_symlink() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn same(dir: &Path, payload: &Payload, owner: Owner) -> bool {
    let mut found = Vec::new();
    if list(dir, &PathBuf::new(), &mut found).is_err() || found.len() != payload.len() {
        return false;
    }
    payload.iter().all(|(path, file)| {
        let target = dir.join(path);
        let Ok(meta) = fs::metadata(&target) else {
            return false;
        };
        meta.permissions().mode() & 0o7777 == effective_mode(file.mode, owner)
            && owner.uid.is_none_or(|uid| uid == meta.uid())
            && owner.gid.is_none_or(|gid| gid == meta.gid())
            && fs::read(&target).is_ok_and(|data| data == file.data)
    })
}

fn list(dir: &Path, below: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            list(dir, &path, found)?
        } else {
            found.push(path)
        }
    }
    Ok(())
}

fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound {
        Ok(())
    } else {
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        files
            .iter()
            .map(|(path, text)| {
                (
                    (*path).to_owned(),
                    File {
                        data: text.as_bytes().to_vec(),
                        mode: 0o644,
                    },
                )
            })
            .collect()
    }

    #[test]
    fn files_change_together_and_stale_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let at = |s| Timestamp::from_second(s).unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).ok();
        assert!(
            write(
                dir.path(),
                &payload(&[("a", "1"), ("d/b", "2")]),
                Owner::default(),
                at(1)
            )
            .unwrap()
        );
        assert_eq!((read("a"), read("d/b")), (Some("1".into()), Some("2".into())));
        assert!(
            !write(
                dir.path(),
                &payload(&[("a", "1"), ("d/b", "2")]),
                Owner::default(),
                at(2)
            )
            .unwrap()
        );
        assert!(write(dir.path(), &payload(&[("a", "3")]), Owner::default(), at(3)).unwrap());
        assert_eq!((read("a"), read("d/b")), (Some("3".into()), None));
        assert_eq!(
            fs::read_link(dir.path().join("a")).unwrap(),
            Path::new("..data/a")
        );
        let hidden = fs::read_dir(dir.path())
            .unwrap()
            .flatten()
            .filter(|e| e.file_type().unwrap().is_dir())
            .count();
        assert_eq!(hidden, 1);
    }
}
