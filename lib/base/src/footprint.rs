//! Gives memory back that only the start of a component needed.
//!
//! Reading certificates, building clients and filling caches runs code once and frees most of what it allocates. Both
//! would stay resident for as long as the machine has memory to spare: the code as pages of the program's file, the
//! allocations as free chunks of the heap. The kernel reads a page of code again when it is needed after all, so
//! giving back costs a few page faults and never correctness: only mappings that cannot be written and hold no page of
//! their own are touched.

use std::time::Duration;

use crate::error;

/// First pause before memory is given back; the start is over by then. Later ones double.
const FIRST: Duration = Duration::from_secs(10);
/// Longest pause between two looks.
const LAST: Duration = Duration::from_secs(640);
/// Heaps of a component that mostly waits: one for each of its threads would be mostly empty.
const ARENAS_FEW: libc::c_int = 2;

/// A mapping of a file as /proc/self/smaps tells of it.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    start: usize,
    length: usize,
}

/// Has the threads of a component share few heaps; to be called before there are any.
#[expect(
    unsafe_code,
    reason = "mallopt is a plain C function; it changes a setting of the allocator"
)]
pub(crate) fn share_heaps() {
    // SAFETY: no pointers; other threads do not run yet.
    let set = unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS_FEW) };
    if set == 0 {
        tracing::debug!("the allocator keeps its own number of heaps");
    }
}

/// Gives back again and again, ever more seldom.
pub(crate) async fn keep_small() {
    let mut pause = FIRST;
    loop {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST);
        // Milliseconds of the kernel's time, not to be spent on a thread that serves.
        if let Err(error) = tokio::task::spawn_blocking(give_back).await {
            tracing::debug!(error = error::chain(&error), "memory not given back");
        }
    }
}

fn give_back() {
    trim_heaps();
    match std::fs::read_to_string("/proc/self/smaps") {
        Ok(text) => clean_file_mappings(&text).iter().for_each(release),
        Err(error) => tracing::debug!(%error, "mappings not read"),
    }
}

#[expect(
    unsafe_code,
    reason = "malloc_trim is a plain C function; it returns free memory to the kernel"
)]
fn trim_heaps() {
    // SAFETY: takes the allocator's own locks; no pointers.
    unsafe { libc::malloc_trim(0) };
}

#[expect(
    unsafe_code,
    reason = "madvise on a mapping without pages of its own drops what the file can give again"
)]
fn release(mapping: &Mapping) {
    // SAFETY: the mapping is of a file, private or shared, not writable, and holds no anonymous page: after
    // MADV_DONTNEED its pages are read from the file again, with the same content.
    unsafe {
        libc::madvise(
            mapping.start as *mut libc::c_void,
            mapping.length,
            libc::MADV_DONTNEED,
        )
    };
}

/// The mappings of files that cannot be written and have no page that differs from the file. Pure.
fn clean_file_mappings(smaps: &str) -> Vec<Mapping> {
    let mut found = Vec::new();
    let mut current: Option<Mapping> = None;
    for line in smaps.lines() {
        match line.split_once(": ").map(|(key, rest)| (key, rest.trim())) {
            Some(("Anonymous" | "Private_Dirty" | "Shared_Dirty", amount)) if amount != "0 kB" => {
                current = None;
            }
            // The last line of each mapping.
            Some(("VmFlags", _)) => found.extend(current.take()),
            _ => {
                if let Some(mapping) = header(line) {
                    current = mapping;
                }
            }
        }
    }
    found
}

/// The first line of a mapping: `start-end perms offset device inode path`. Gives none for other lines, and nothing to
/// release for mappings that are no files or can be written.
fn header(line: &str) -> Option<Option<Mapping>> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    let perms = words.next()?;
    let file = words.nth(3).is_some_and(|path| path.starts_with('/'));
    Some((file && !perms.contains('w')).then_some(Mapping {
        start,
        length: end.saturating_sub(start),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
55d0-55e0 r--p 00000000 fe:00 123   /usr/bin/kubelet
Rss:                  16 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
55e0-5600 r-xp 00010000 fe:00 123   /usr/bin/kubelet (deleted)
Private_Dirty:         0 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
5600-5610 r--p 00030000 fe:00 123   /usr/bin/kubelet
Private_Dirty:         4 kB
Anonymous:             4 kB
VmFlags: rd mr mw me
5610-5620 rw-p 00040000 fe:00 123   /usr/bin/kubelet
Private_Dirty:         0 kB
Anonymous:             0 kB
VmFlags: rd wr mr mw me
5620-5630 rw-p 00000000 00:00 0     [heap]
VmFlags: rd wr mr mw me
7000-7010 r--p 00000000 00:00 0
VmFlags: rd mr mw me
";

    #[test]
    fn only_what_the_file_can_give_again_is_released() {
        let expected = [(0x55d0, 0x10), (0x55e0, 0x20)].map(|(start, length)| Mapping { start, length });
        assert_eq!(clean_file_mappings(SMAPS), expected);
    }

    #[test]
    fn code_runs_on_after_it_was_given_back() {
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("RssFile:"))
                .unwrap();
            let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
            kib
        };
        // Other tests of this process may run beside; one of a few looks sees what was given back.
        let gave = (0..20).any(|_| {
            let before = resident();
            give_back();
            resident() < before
        });
        assert!(gave, "the pages of the program stay resident");
    }
}
