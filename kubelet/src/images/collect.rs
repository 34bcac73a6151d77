//! Removes images nobody uses when the image file system is nearly full: above the high mark, down to the low one.
//!
//! The sandbox image stays: it has no container of its own, and runtimes before containerd 1.7 do not pin it.

use crate::host::Host;
use crate::node::machine;
use crate::node::register;
use keelson_client::EventType;
use keelson_proto::cri::v1::{ContainerFilter, Image};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How often upstream looks.
const LOOK_EVERY: Duration = Duration::from_secs(300);

/// `imageGCHighThresholdPercent` and `imageGCLowThresholdPercent`; a high mark of 100 is never reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    pub high_percent: u64,
    pub low_percent: u64,
}

/// Looks for ever.
pub async fn run(host: Arc<Host>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Err(status) = once(&host).await {
            tracing::warn!(error = %crate::cri::describe(&status), "images not collected");
        }
    }
}

async fn once(host: &Host) -> Result<(), tonic::Status> {
    let info = host.cri.image_fs_info().await?;
    let mount = info
        .image_filesystems
        .into_iter()
        .find_map(|f| f.fs_id)
        .map(|id| id.mountpoint)
        .unwrap_or_else(|| "/".into());
    let fs = machine::filesystem(Path::new(&mount));
    let wanted = to_free(fs.bytes, fs.bytes_available, host.settings.image_marks);
    if wanted == 0 {
        return Ok(());
    }
    let mut used: HashSet<String> = host
        .cri
        .list_containers(ContainerFilter::default())
        .await?
        .into_iter()
        .flat_map(|c| {
            [
                c.image_ref,
                c.image_id,
                c.image.map(|i| i.image).unwrap_or_default(),
            ]
        })
        .collect();
    // Without its name nothing can be told apart from it.
    let Some(sandbox) = host.cri.sandbox_image().await? else {
        return Ok(());
    };
    used.insert(sandbox);
    let mut freed = 0;
    for image in unused(host.cri.list_images().await?, &used) {
        if freed >= wanted {
            break;
        }
        host.cri.remove_image(&image.id).await?;
        tracing::info!(image = %image.id, bytes = image.size, "image removed to free space");
        freed += image.size;
    }
    if freed < wanted {
        let message = format!(
            "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only found {freed} bytes eligible to free."
        );
        host.event(
            register::reference(&host.settings.node_name),
            EventType::Warning,
            "FreeDiskSpaceFailed",
            message,
        );
    }
    Ok(())
}

/// Bytes to free; zero below the high mark.
fn to_free(capacity: u64, available: u64, marks: Marks) -> u64 {
    if marks.high_percent >= 100 || capacity == 0 || 100 - available * 100 / capacity < marks.high_percent {
        return 0;
    }
    (capacity * (100 - marks.low_percent.min(100)) / 100).saturating_sub(available)
}

/// Images of no container, largest first; pinned ones (the sandbox image) never.
fn unused(images: Vec<Image>, used: &HashSet<String>) -> Vec<Image> {
    let in_use = |i: &Image| {
        used.contains(&i.id)
            || i.repo_tags
                .iter()
                .chain(&i.repo_digests)
                .any(|name| used.contains(name))
    };
    let mut out: Vec<Image> = images.into_iter().filter(|i| !i.pinned && !in_use(i)).collect();
    out.sort_by_key(|i| std::cmp::Reverse(i.size));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_disk_asks_for_space() {
        let marks = Marks {
            high_percent: 85,
            low_percent: 80,
        };
        assert_eq!(to_free(100, 16, marks), 0);
        assert_eq!(to_free(100, 15, marks), 5);
        assert_eq!(to_free(0, 0, marks), 0);
        assert_eq!(
            to_free(
                100,
                0,
                Marks {
                    high_percent: 100,
                    low_percent: 80
                }
            ),
            0
        );
        let image = |id: &str, size, pinned| Image {
            id: id.into(),
            size,
            pinned,
            ..Image::default()
        };
        let left = unused(
            vec![image("a", 1, false), image("b", 2, false), image("c", 3, true)],
            &HashSet::from(["a".to_owned()]),
        );
        assert_eq!(left.iter().map(|i| i.id.as_str()).collect::<Vec<_>>(), ["b"]);
    }
}
