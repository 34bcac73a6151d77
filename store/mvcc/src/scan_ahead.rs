//! Scanning an engine on a thread of its own, ahead of whoever looks at what it finds: opening a large state is reading
//! and checking in equal parts. Order and outcome are those of a plain scan.

use std::sync::mpsc::sync_channel;

use bytes::Bytes;
use keelson_store_disk::Engine;

use crate::backend::ReadError;

/// Pairs handed over at once.
const BATCH_PAIRS: usize = 64;
/// Batches the scan may be ahead: with the longest pairs that is what one flush writes.
const BATCHES_AHEAD: usize = 4;

/// Calls `visit` for each key in `[from, to)` in order until it answers false.
pub fn scan_ahead(
    engine: &dyn Engine,
    from: &[u8],
    to: &[u8],
    visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
) -> Result<(), ReadError> {
    std::thread::scope(|scope| {
        let (batches, received) = sync_channel(BATCHES_AHEAD);
        let reading = scope.spawn(move || {
            let mut batch = Vec::with_capacity(BATCH_PAIRS);
            engine.scan(from, to, &mut |key, value| {
                batch.push((key.to_vec(), value));
                // Nobody receives once a visit answered false.
                batch.len() < BATCH_PAIRS || batches.send(std::mem::take(&mut batch)).is_ok()
            })?;
            let _ = batches.send(batch);
            Ok(())
        });
        for (key, value) in received.iter().flatten() {
            if !visit(&key, value) {
                break;
            }
        }
        drop(received);
        let read = reading.join();
        read.unwrap_or_else(|_| Err(ReadError::damaged("the engine panicked while it was read")))
    })
}

#[cfg(test)]
mod tests {
    use keelson_store_disk::Batch;
    use keelson_store_disk::memory_engine::MemoryEngine;

    use super::*;

    #[test]
    fn everything_comes_in_order_and_a_scan_may_stop_anywhere() {
        let engine = MemoryEngine::default();
        let mut batch = Batch::default();
        let count = BATCH_PAIRS as u32 * 10 + 7;
        for number in 0..count {
            batch.put(number.to_be_bytes().to_vec(), number.to_string());
        }
        engine.apply(batch).unwrap();
        for most in [1_u32, BATCH_PAIRS as u32, BATCH_PAIRS as u32 + 1, count, u32::MAX] {
            let mut next = 0_u32;
            let upper = u32::MAX.to_be_bytes();
            scan_ahead(&engine, &[], &upper, &mut |key, value| {
                assert_eq!(
                    (key, &value[..]),
                    (&next.to_be_bytes()[..], next.to_string().as_bytes())
                );
                next += 1;
                next < most
            })
            .unwrap();
            assert_eq!(next, most.min(count));
        }
    }
}
