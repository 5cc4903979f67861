//! The decompression of requests, within a limit.
//!
//! A few kilobytes can hold gigabytes, so the limit is on what comes out, and nothing is decompressed beyond it.

use std::io::Read;

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};

/// The largest window of zstd that is taken, as a power of two: 8 MiB, the most that RFC 9659 allows over HTTP. The
/// window is allocated on the word of the sender, and zstd's own limit of 128 MiB is all the memory there may be.
const ZSTD_WINDOW_LOG: u32 = 23;

/// How a body or message is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Identity,
    Gzip,
    Deflate,
    Zstd,
}

/// Why there is nothing decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecompressError {
    #[error("decompressed, the body is larger than the limit of {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the body is not what its encoding says: its {0} is broken or cut short")]
    Corrupt(&'static str),
}

impl Compression {
    /// The names of them all, as `Accept-Encoding` and `grpc-accept-encoding` have them.
    pub(super) const NAMES: &'static str = "gzip, deflate, zstd, identity";

    /// The compression of that name in `Content-Encoding` or `grpc-encoding`.
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        match name.trim_ascii().to_ascii_lowercase().as_slice() {
            b"" | b"identity" => Some(Self::Identity),
            b"gzip" | b"x-gzip" => Some(Self::Gzip),
            b"deflate" => Some(Self::Deflate),
            b"zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Decompresses all of it, if that makes no more than `limit` bytes.
    pub(super) fn decompress(self, compressed: Bytes, limit: usize) -> Result<Bytes, DecompressError> {
        let mut bytes = match self {
            Self::Identity if compressed.len() > limit => return Err(DecompressError::TooLarge { limit }),
            Self::Identity => return Ok(compressed),
            Self::Gzip => read("gzip", flate2::bufread::MultiGzDecoder::new(&*compressed), limit)?,
            Self::Deflate => deflate(&compressed, limit)?,
            Self::Zstd => zstd(&compressed, limit)?,
        };
        // What is kept of it is accounted for by its length.
        bytes.shrink_to_fit();
        Ok(Bytes::from(bytes))
    }
}

fn read(name: &'static str, decoder: impl Read, limit: usize) -> Result<Vec<u8>, DecompressError> {
    let mut bytes = Vec::new();
    decoder.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(|_| DecompressError::Corrupt(name))?;
    if bytes.len() > limit { Err(DecompressError::TooLarge { limit }) } else { Ok(bytes) }
}

fn zstd(compressed: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
    let corrupt = |_| DecompressError::Corrupt("zstd");
    let mut decoder = zstd::stream::read::Decoder::with_buffer(compressed).map_err(corrupt)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(corrupt)?;
    read("zstd", decoder, limit)
}

/// HTTP's deflate is a zlib stream. Some clients have read its name as that of the format within, and send that.
fn deflate(compressed: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
    match inflate(compressed, true, limit) {
        Err(DecompressError::Corrupt(_)) => inflate(compressed, false, limit),
        done => done,
    }
}

/// Not by flate2's reader, which takes a stream that is cut short for one that has ended.
fn inflate(compressed: &[u8], zlib_header: bool, limit: usize) -> Result<Vec<u8>, DecompressError> {
    const FIRST: usize = 8 << 10;
    let mut stream = Decompress::new(zlib_header);
    let mut bytes = Vec::new();
    let mut rest = compressed;
    loop {
        // One byte beyond the limit tells that there is more.
        let room = limit + 1 - bytes.len();
        bytes.reserve_exact(room.min(bytes.len().max(FIRST)));
        let before = (stream.total_in(), bytes.len());
        let status = stream
            .decompress_vec(rest, &mut bytes, FlushDecompress::None)
            .map_err(|_| DecompressError::Corrupt("deflate"))?;
        if bytes.len() > limit {
            return Err(DecompressError::TooLarge { limit });
        }
        if status == Status::StreamEnd {
            return Ok(bytes);
        }
        if before == (stream.total_in(), bytes.len()) {
            return Err(DecompressError::Corrupt("deflate"));
        }
        let read = usize::try_from(stream.total_in()).unwrap_or(usize::MAX);
        rest = compressed.get(read..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression as Level;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    use super::*;

    fn all(bytes: &[u8]) -> Vec<(Compression, Vec<u8>)> {
        let mut gzip = GzEncoder::new(Vec::new(), Level::fast());
        let mut zlib = ZlibEncoder::new(Vec::new(), Level::fast());
        let mut raw = DeflateEncoder::new(Vec::new(), Level::fast());
        gzip.write_all(bytes).unwrap();
        zlib.write_all(bytes).unwrap();
        raw.write_all(bytes).unwrap();
        vec![
            (Compression::Gzip, gzip.finish().unwrap()),
            (Compression::Deflate, zlib.finish().unwrap()),
            (Compression::Deflate, raw.finish().unwrap()),
            (Compression::Zstd, ::zstd::encode_all(bytes, 1).unwrap()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn what_was_compressed_comes_back_within_the_limit_and_not_beyond(
            bytes in proptest::collection::vec(0..4_u8, 0..100_000),
        ) {
            for (compression, compressed) in all(&bytes) {
                let compressed = Bytes::from(compressed);
                prop_assert_eq!(compression.decompress(compressed.clone(), bytes.len()).unwrap(), &bytes);
                if let Some(limit) = bytes.len().checked_sub(1) {
                    let refused = compression.decompress(compressed, limit);
                    prop_assert_eq!(refused, Err(DecompressError::TooLarge { limit }));
                }
            }
        }

        #[test]
        fn random_bytes_do_no_harm(bytes: Vec<u8>) {
            for compression in [Compression::Gzip, Compression::Deflate, Compression::Zstd] {
                let _ = compression.decompress(Bytes::from(bytes.clone()), 1000);
            }
        }
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        let bytes: Vec<u8> = (0..10_000_u32).flat_map(u32::to_le_bytes).collect();
        for (compression, compressed) in all(&bytes) {
            for len in [compressed.len() - 1, compressed.len() / 2, 1] {
                // A zlib stream without its checksum is whole but for that, and refused all the same.
                let cut = Bytes::copy_from_slice(&compressed[..len]);
                let refused = compression.decompress(cut, 1 << 20);
                assert!(
                    matches!(refused, Err(DecompressError::Corrupt(_))),
                    "{compression:?} at {len}: {refused:?}"
                );
            }
        }
    }

    #[test]
    fn a_zstd_window_that_would_take_all_the_memory_is_refused() {
        let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&[7; 1000]).unwrap();
        let frame = Bytes::from(encoder.finish().unwrap());
        assert_eq!(Compression::Zstd.decompress(frame, 2000), Err(DecompressError::Corrupt("zstd")));
    }
}
