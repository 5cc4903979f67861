//! Memory for pending telemetry that returns to the system as soon as it is freed.
//!
//! The allocator returns memory only from the high end of its heap, and on Linux the heap grows at its low end.
//! So the memory of an outage would stay with the process for good, at the function's expense. Pending
//! telemetry is therefore kept in pages of its own. The allocator keeps small pieces and short-lived memory.

use bytes::Bytes;
use memmap2::MmapOptions;

/// The smallest piece to move, in bytes. A smaller one would waste most of its page. The allocator wastes no
/// less on pieces of a few pages, because it takes memory in steps of 64 kB.
const MIN_LEN: usize = 4 * 1024;

/// Moves a piece of a page or more into pages of its own. If the system has none, the piece stays where it is.
pub fn move_to_pages(bytes: Bytes) -> Bytes {
    if bytes.len() < MIN_LEN {
        return bytes;
    }
    // All pages are populated at once, because a page fault for each would cost more than the copy.
    match MmapOptions::new().len(bytes.len()).populate().map_anon() {
        Ok(mut pages) => {
            pages.copy_from_slice(&bytes);
            Bytes::from_owner(pages)
        }
        Err(_) => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moved_pieces_keep_their_bytes() {
        for length in [0, 1, MIN_LEN - 1, MIN_LEN, MIN_LEN + 1, 5_000_000] {
            let bytes: Vec<_> = (0_u8..=250).cycle().take(length).collect();
            let moved = move_to_pages(Bytes::from(bytes.clone()));
            assert_eq!(moved, bytes);
            assert_eq!(moved.slice(length / 2..), bytes[length / 2..]);
        }
    }
}
