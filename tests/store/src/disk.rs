//! A small disk of its own: an ext4 image behind a loop device, mounted while the value lives.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use keelson_store_disk::{Disk, RealDisk};

use crate::programs::run;

/// What is written at once to fill it.
const PIECE_BYTES: usize = 1 << 20;

/// A mounted image.
pub struct SmallDisk {
    mount: PathBuf,
}

impl SmallDisk {
    /// Makes and mounts a disk of so many MiB below `dir`.
    pub fn mount(dir: &Path, mib: u64) -> anyhow::Result<Self> {
        let (image, mount) = (dir.join("disk.img"), dir.join("disk"));
        let file = std::fs::File::create(&image).context("make an image")?;
        file.set_len(mib << 20).context("size the image")?;
        run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image))?;
        std::fs::create_dir_all(&mount).context("make a mount point")?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&mount))?;
        Ok(Self { mount })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Fills it with a file until about `spare` bytes are left; with 0 until nothing can be written any more.
    pub fn fill(&self, spare: u64) -> anyhow::Result<()> {
        let mut ballast = File::create(self.mount.join("ballast")).context("make the ballast")?;
        let mut piece = vec![0; PIECE_BYTES];
        while RealDisk.free_bytes(&self.mount)? > spare || spare == 0 {
            match ballast.write_all(&piece).and_then(|()| ballast.sync_data()) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull && piece.len() > 1 => {
                    piece.truncate(piece.len() / 2);
                }
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error).context("write the ballast"),
            }
        }
        Ok(())
    }

    /// Takes the file away again.
    pub fn relieve(&self) -> anyhow::Result<()> {
        std::fs::remove_file(self.mount.join("ballast")).context("remove the ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that is being killed may still hold a file.
        let _ = Command::new("umount").arg("-l").arg(&self.mount).status();
    }
}
