//! Memory for what waits, which goes back to the system as soon as it is freed.
//!
//! The allocator gives memory back from the high end of its heap only, and on Linux the heap grows at its low end. So what an
//! outage took would stay with the process for good, at the cost of the function. Telemetry that waits is therefore kept in
//! pages of its own; the allocator is left with small pieces and with what lives for a moment.

use bytes::Bytes;
use memmap2::MmapOptions;

/// Smaller pieces stay where they are: most of their page would be lost. The allocator loses no less on pieces of a few
/// pages, because it takes memory in steps of 64 kB.
const LEAST: usize = 4 * 1024;

/// Moves a piece of a page or more into pages of its own. Where the system gives none, the piece stays where it is.
pub fn own(bytes: Bytes) -> Bytes {
    if bytes.len() < LEAST {
        return bytes;
    }
    // All pages at once, for a fault at each would cost more than the copy.
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
    fn pieces_keep_their_bytes() {
        for length in [0, 1, LEAST - 1, LEAST, LEAST + 1, 5_000_000] {
            let bytes: Vec<_> = (0_u8..=250).cycle().take(length).collect();
            let owned = own(Bytes::from(bytes.clone()));
            assert_eq!(owned, bytes);
            assert_eq!(owned.slice(length / 2..), bytes[length / 2..]);
        }
    }
}
