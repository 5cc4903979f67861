//! Decompresses requests, within a limit and the body budget.
//!
//! A few kilobytes can expand to gigabytes, so the limit applies to the output, and nothing is decompressed
//! beyond it. Decompression yields to other tasks between steps, so the caller must ensure that there is only
//! one decoder at a time.

use std::io::Read;

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};

use rotel_core::body_budget::{HeldBytes, NoRoom};

/// The largest zstd window accepted, as a power of two: 8 MiB, the maximum that RFC 9659 allows over HTTP. The
/// sender decides how much is allocated for the window, and zstd's own limit of 128 MiB may be all of the
/// function's memory.
const ZSTD_WINDOW_LOG: u32 = 23;

/// The compression of a body or message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentEncoding {
    Identity,
    Gzip,
    Deflate,
    Zstd,
}

/// The reason that decompression failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecompressError {
    #[error("the decompressed body is larger than the limit of {limit} bytes; send smaller batches")]
    TooLarge { limit: usize },
    #[error("the body is not valid {0}, or was cut short")]
    Corrupt(&'static str),
    #[error(
        "other requests use the whole receive budget; retry in a second; if this persists, increase the function's memory"
    )]
    NoRoom,
}

impl ContentEncoding {
    /// All names, in the format of `Accept-Encoding` and `grpc-accept-encoding`.
    pub(super) const NAMES: &'static str = "gzip, deflate, zstd, identity";

    /// Parses the value of `Content-Encoding` or `grpc-encoding`.
    pub(super) fn parse(name: &[u8]) -> Option<Self> {
        match name.trim_ascii().to_ascii_lowercase().as_slice() {
            b"" | b"identity" => Some(Self::Identity),
            b"gzip" | b"x-gzip" => Some(Self::Gzip),
            b"deflate" => Some(Self::Deflate),
            b"zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Decompresses the body, if the output has at most `limit` bytes and `held` has room for it. Afterwards
    /// `held` holds the output.
    pub(super) async fn decompress(
        self,
        compressed: Bytes,
        limit: usize,
        held: &mut HeldBytes,
    ) -> Result<Bytes, DecompressError> {
        let mut out = DecompressedOutput { bytes: Vec::new(), limit, held };
        match self {
            Self::Identity if compressed.len() > limit => return Err(DecompressError::TooLarge { limit }),
            Self::Identity => return Ok(compressed),
            Self::Gzip => read("gzip", flate2::bufread::MultiGzDecoder::new(&*compressed), &mut out).await?,
            Self::Deflate => deflate(&compressed, &mut out).await?,
            Self::Zstd => zstd(&compressed, &mut out).await?,
        }
        let DecompressedOutput { mut bytes, held, .. } = out;
        drop(compressed);
        // The output is counted by its length, so spare capacity must go.
        bytes.shrink_to_fit();
        held.shrink_to(bytes.len());
        Ok(Bytes::from(bytes))
    }
}

/// The output of the first step and the maximum output of one step, in bytes: a few milliseconds of work.
const FIRST_STEP: usize = 8 << 10;
const MAX_STEP: usize = 1 << 20;

/// The output so far.
struct DecompressedOutput<'a> {
    bytes: Vec<u8>,
    limit: usize,
    held: &'a mut HeldBytes,
}

impl DecompressedOutput<'_> {
    /// Reserves room for the next step, which doubles the output. One byte beyond the limit shows that there is
    /// more.
    fn step(&mut self) -> Result<usize, DecompressError> {
        let step = self.bytes.len().clamp(FIRST_STEP, MAX_STEP).min(self.limit + 1 - self.bytes.len());
        self.held.try_grow(step).map_err(|no_room| match no_room {
            NoRoom::Full => DecompressError::NoRoom,
            NoRoom::TooLarge(limit) => DecompressError::TooLarge { limit },
        })?;
        Ok(step)
    }

    fn check(&self) -> Result<(), DecompressError> {
        if self.bytes.len() > self.limit {
            Err(DecompressError::TooLarge { limit: self.limit })
        } else {
            Ok(())
        }
    }
}

async fn read(
    name: &'static str,
    mut decoder: impl Read,
    out: &mut DecompressedOutput<'_>,
) -> Result<(), DecompressError> {
    loop {
        let step = out.step()?;
        let mut decoder = (&mut decoder).take(step as u64);
        let read = decoder.read_to_end(&mut out.bytes).map_err(|_| DecompressError::Corrupt(name))?;
        out.check()?;
        if read < step {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}

async fn zstd(compressed: &[u8], out: &mut DecompressedOutput<'_>) -> Result<(), DecompressError> {
    let corrupt = |_| DecompressError::Corrupt("zstd");
    let mut decoder = zstd::stream::read::Decoder::with_buffer(compressed).map_err(corrupt)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(corrupt)?;
    read("zstd", decoder, out).await
}

/// HTTP's deflate is a zlib stream. Some clients take the name literally and send raw deflate.
async fn deflate(compressed: &[u8], out: &mut DecompressedOutput<'_>) -> Result<(), DecompressError> {
    match inflate(compressed, true, out).await {
        Err(DecompressError::Corrupt(_)) => {
            out.bytes.clear();
            inflate(compressed, false, out).await
        }
        done => done,
    }
}

/// Inflates a stream. flate2's reader is not used because it takes a truncated stream for a complete one.
async fn inflate(
    compressed: &[u8],
    zlib_header: bool,
    out: &mut DecompressedOutput<'_>,
) -> Result<(), DecompressError> {
    let mut stream = Decompress::new(zlib_header);
    let mut rest = compressed;
    loop {
        if out.bytes.len() == out.bytes.capacity() {
            let step = out.step()?;
            out.bytes.reserve(step);
        }
        let before = (stream.total_in(), out.bytes.len());
        let status = stream
            .decompress_vec(rest, &mut out.bytes, FlushDecompress::None)
            .map_err(|_| DecompressError::Corrupt("deflate"))?;
        out.check()?;
        if status == Status::StreamEnd {
            return Ok(());
        }
        if before == (stream.total_in(), out.bytes.len()) {
            return Err(DecompressError::Corrupt("deflate"));
        }
        let read = usize::try_from(stream.total_in()).unwrap_or(usize::MAX);
        rest = compressed.get(read..).unwrap_or_default();
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression as CompressionLevel;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    use super::*;
    use rotel_core::body_budget::BodyBudget;

    fn compressed_forms(bytes: &[u8]) -> Vec<(ContentEncoding, Vec<u8>)> {
        let mut gzip = GzEncoder::new(Vec::new(), CompressionLevel::fast());
        let mut zlib = ZlibEncoder::new(Vec::new(), CompressionLevel::fast());
        let mut raw = DeflateEncoder::new(Vec::new(), CompressionLevel::fast());
        gzip.write_all(bytes).unwrap();
        zlib.write_all(bytes).unwrap();
        raw.write_all(bytes).unwrap();
        vec![
            (ContentEncoding::Gzip, gzip.finish().unwrap()),
            (ContentEncoding::Deflate, zlib.finish().unwrap()),
            (ContentEncoding::Deflate, raw.finish().unwrap()),
            (ContentEncoding::Zstd, ::zstd::encode_all(bytes, 1).unwrap()),
        ]
    }

    fn decompress(
        compression: ContentEncoding,
        compressed: Bytes,
        limit: usize,
    ) -> Result<Bytes, DecompressError> {
        let mut held = BodyBudget::new(64 << 20).hold();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(compression.decompress(compressed, limit, &mut held))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn output_is_complete_up_to_the_limit(
            bytes in proptest::collection::vec(0..4_u8, 0..100_000),
        ) {
            for (compression, compressed) in compressed_forms(&bytes) {
                let compressed = Bytes::from(compressed);
                prop_assert_eq!(decompress(compression, compressed.clone(), bytes.len()).unwrap(), &bytes);
                if let Some(limit) = bytes.len().checked_sub(1) {
                    let refused = decompress(compression, compressed, limit);
                    prop_assert_eq!(refused, Err(DecompressError::TooLarge { limit }));
                }
            }
        }

        #[test]
        fn random_bytes_do_not_panic(bytes: Vec<u8>) {
            for compression in [ContentEncoding::Gzip, ContentEncoding::Deflate, ContentEncoding::Zstd] {
                let _ = decompress(compression, Bytes::from(bytes.clone()), 1000);
            }
        }
    }

    #[test]
    fn truncated_streams_are_refused() {
        let bytes: Vec<u8> = (0..10_000_u32).flat_map(u32::to_le_bytes).collect();
        for (compression, compressed) in compressed_forms(&bytes) {
            for len in [compressed.len() - 1, compressed.len() / 2, 1] {
                // A zlib stream that lacks only its checksum is refused, too.
                let cut = Bytes::copy_from_slice(&compressed[..len]);
                let refused = decompress(compression, cut, 1 << 20);
                assert!(
                    matches!(refused, Err(DecompressError::Corrupt(_))),
                    "{compression:?} at {len}: {refused:?}"
                );
            }
        }
    }

    #[test]
    fn huge_zstd_window_is_refused() {
        let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&[7; 1000]).unwrap();
        let frame = Bytes::from(encoder.finish().unwrap());
        assert_eq!(decompress(ContentEncoding::Zstd, frame, 2000), Err(DecompressError::Corrupt("zstd")));
    }

    #[tokio::test]
    async fn output_counts_against_the_budget() {
        let bytes = vec![0; 3 << 20];
        for (compression, compressed) in compressed_forms(&bytes) {
            let budget = BodyBudget::new(5 << 20);
            let compressed = Bytes::from(compressed);
            let mut first = budget.hold();
            first.try_grow(compressed.len()).unwrap();
            compression.decompress(compressed.clone(), 20 << 20, &mut first).await.unwrap();
            let refused = compression.decompress(compressed.clone(), 20 << 20, &mut budget.hold()).await;
            assert_eq!(refused, Err(DecompressError::NoRoom));
            drop(first);
            compression.decompress(compressed, 20 << 20, &mut budget.hold()).await.unwrap();
            let budget = BodyBudget::new(2 << 20);
            let (_, beyond) = compressed_forms(&bytes).remove(0);
            let refused =
                ContentEncoding::Gzip.decompress(Bytes::from(beyond), 20 << 20, &mut budget.hold()).await;
            assert_eq!(refused, Err(DecompressError::TooLarge { limit: 2 << 20 }));
        }
    }
}
