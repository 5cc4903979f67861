//! Request bodies: the chunks laid end to end, compressed or as they are.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use flate2::{Compress, Crc, FlushCompress, Status};

use crate::edge::body::WholeBody;
use rotel_core::config::Compression;

/// An encoded body that can be sent more than once.
pub(super) struct EncodedBody {
    parts: VecDeque<Bytes>,
    /// The name of the compression of `parts`, in HTTP and in gRPC.
    pub(super) encoding: Option<&'static str>,
}

impl EncodedBody {
    /// The total number of bytes.
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    /// Returns the body to send, with `prefix` before it.
    pub(super) fn body(&self, prefix: Bytes) -> WholeBody {
        std::iter::once(prefix).chain(self.parts.iter().cloned()).collect()
    }
}

/// The bytes compressed in one turn: less than a millisecond's work on a whole core. With slightly more, the
/// compressor would move its window, which has 192 kB of hashes pointing into it, and that takes as long as
/// compressing.
const TURN_BYTES: usize = 63 * 1024;
/// The size at which compressed bytes become a part.
const PART_BYTES: usize = 16 * 1024;

/// Encodes a body. Uncompressed, it is the chunks themselves, not copied. Between turns it yields to other
/// tasks, above all the one that enforces deadlines.
pub(super) async fn encode(
    chunks: Vec<Bytes>,
    compression: Compression,
    idle: &IdleCompressor,
) -> EncodedBody {
    let encoder = match compression {
        // Compressing nothing would produce some twenty bytes.
        _ if chunks.is_empty() => None,
        Compression::None => None,
        Compression::Gzip => Some(Encoder::Gzip(Gzip::new(idle))),
        Compression::Zstd => Encoder::zstd().ok(),
    };
    let Some(encoder) = encoder else { return EncodedBody { parts: chunks.into(), encoding: None } };
    match compressed(&chunks, encoder).await {
        Ok((parts, encoding)) => EncodedBody { parts, encoding: Some(encoding) },
        // Writing to memory does not fail; if it did, the uncompressed body would still be valid.
        Err(_) => EncodedBody { parts: chunks.into(), encoding: None },
    }
}

async fn compressed(
    chunks: &[Bytes],
    mut encoder: Encoder<'_>,
) -> io::Result<(VecDeque<Bytes>, &'static str)> {
    let mut room = TURN_BYTES;
    for chunk in chunks {
        let mut rest = chunk.as_ref();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(room));
            encoder.write(now)?;
            rest = later;
            room -= now.len();
            if room == 0 {
                room = TURN_BYTES;
                encoder.pause()?;
                tokio::task::yield_now().await;
            }
        }
    }
    encoder.finish()
}

/// A running compression, at level 1: higher levels take more of the function's billed time.
enum Encoder<'a> {
    Gzip(Gzip<'a>),
    Zstd(zstd::Encoder<'static, Vec<u8>>),
}

impl Encoder<'_> {
    fn zstd() -> io::Result<Self> {
        Ok(Self::Zstd(zstd::Encoder::new(Vec::new(), 1)?))
    }

    fn write(&mut self, slice: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.write_all(slice),
            Self::Zstd(encoder) => encoder.write_all(slice),
        }
    }

    /// Releases the shared compressor between turns.
    fn pause(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.pause(),
            Self::Zstd(_) => Ok(()),
        }
    }

    /// Returns the compressed parts and the name of the compression.
    fn finish(self) -> io::Result<(VecDeque<Bytes>, &'static str)> {
        match self {
            Self::Gzip(encoder) => Ok((encoder.finish()?, "gzip")),
            Self::Zstd(encoder) => Ok((VecDeque::from([Bytes::from(encoder.finish()?)]), "zstd")),
        }
    }
}

/// A compressor between uses. It takes nearly 400 kB, which would otherwise be allocated and cleared for each
/// request, and freed in pieces that nothing else fits. Bodies that are encoded at the same time take turns
/// with it.
#[derive(Clone, Debug, Default)]
pub(super) struct IdleCompressor(Arc<Mutex<Option<Compress>>>);

impl IdleCompressor {
    fn take(&self) -> Compress {
        let idle = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        idle.unwrap_or_else(|| Compress::new(flate2::Compression::fast(), false))
    }

    /// Returns a compressor, reset to its initial state.
    fn put_back(&self, mut deflate: Compress) {
        deflate.reset();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(deflate);
    }
}

/// Gzip (RFC 1952) with a reusable compressor, which flate2's own encoder does not support.
struct Gzip<'a> {
    idle: &'a IdleCompressor,
    /// Held only during its turn.
    deflate: Option<Compress>,
    /// Compressed bytes since the last part.
    pending: Vec<u8>,
    /// Complete parts. One growing buffer would leave behind fragments of twice its size in total.
    parts: VecDeque<Bytes>,
    crc: Crc,
}

impl<'a> Gzip<'a> {
    /// Deflate, no flags, no time, fastest compression, unknown system.
    const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];
    /// The minimum free space, in bytes, whenever the compressor is called.
    const MIN_ROOM: usize = 512;

    fn new(idle: &'a IdleCompressor) -> Self {
        Self { idle, deflate: None, pending: Self::HEAD.into(), parts: VecDeque::new(), crc: Crc::new() }
    }

    fn write_all(&mut self, slice: &[u8]) -> io::Result<()> {
        self.crc.update(slice);
        self.compress(slice, FlushCompress::None)?;
        if self.pending.len() >= PART_BYTES {
            self.parts.push_back(Bytes::copy_from_slice(&self.pending));
            self.pending.clear();
        }
        Ok(())
    }

    /// Flushes to a byte boundary; later data does not depend on earlier data in the compressor.
    fn pause(&mut self) -> io::Result<()> {
        self.compress(&[], FlushCompress::Sync)?;
        self.put_back();
        Ok(())
    }

    fn finish(mut self) -> io::Result<VecDeque<Bytes>> {
        self.compress(&[], FlushCompress::Finish)?;
        self.put_back();
        self.pending.extend(self.crc.sum().to_le_bytes());
        self.pending.extend(self.crc.amount().to_le_bytes());
        self.parts.push_back(self.pending.into());
        Ok(self.parts)
    }

    /// Compresses all bytes and completes the flush.
    fn compress(&mut self, mut bytes: &[u8], flush: FlushCompress) -> io::Result<()> {
        let deflate = self.deflate.get_or_insert_with(|| self.idle.take());
        loop {
            self.pending.reserve(Self::MIN_ROOM + bytes.len() / 4);
            let before = deflate.total_in();
            let status = deflate.compress_vec(bytes, &mut self.pending, flush)?;
            let taken = usize::try_from(deflate.total_in() - before).unwrap_or(usize::MAX);
            bytes = bytes.get(taken..).unwrap_or_default();
            // If there is room left, there is no more output.
            if status == Status::StreamEnd || bytes.is_empty() && self.pending.len() < self.pending.capacity()
            {
                return Ok(());
            }
        }
    }

    fn put_back(&mut self) {
        if let Some(deflate) = self.deflate.take() {
            self.idle.put_back(deflate);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::task::Poll;

    use flate2::read::GzDecoder;

    use super::*;

    async fn gzipped<const N: usize>(chunks: [&[u8]; N], idle: &IdleCompressor) -> Vec<u8> {
        let chunks = chunks.map(Bytes::copy_from_slice).into();
        let encoded = encode(chunks, Compression::Gzip, idle).await;
        assert_eq!(encoded.encoding, Some("gzip"));
        encoded.parts.into_iter().flatten().collect()
    }

    fn gunzipped(bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        let mut decoder = GzDecoder::new(bytes);
        decoder.read_to_end(&mut plain).expect("gzip");
        assert!(decoder.into_inner().is_empty(), "there is trailing data");
        plain
    }

    #[tokio::test]
    async fn reused_compressor_starts_fresh() {
        let idle = IdleCompressor::default();
        let long = vec![7; 3 * TURN_BYTES + 1];
        let first = gzipped([b"one", b"two"], &idle).await;
        assert_eq!(gunzipped(&first), b"onetwo");
        assert!(idle.0.lock().expect("a lock").is_some());
        assert_eq!(gunzipped(&gzipped([&long], &idle).await), long);
        assert_eq!(gzipped([b"one", b"two"], &idle).await, first);
    }

    #[tokio::test]
    async fn compressed_parts_are_bounded() {
        let mut rng = fastrand::Rng::with_seed(1);
        let bytes: Vec<u8> = std::iter::repeat_with(|| rng.u8(..64)).take(9 * TURN_BYTES + 1).collect();
        let encoded = encode(
            vec![bytes.clone().into(), bytes.clone().into()],
            Compression::Gzip,
            &IdleCompressor::default(),
        )
        .await;
        assert!(
            encoded.parts.len() > 9 && encoded.parts.iter().all(|part| part.len() < PART_BYTES + TURN_BYTES)
        );
        let compressed: Vec<u8> = encoded.parts.into_iter().flatten().collect();
        assert_eq!(gunzipped(&compressed), bytes.repeat(2));
    }

    #[tokio::test]
    async fn bodies_around_the_window_size_round_trip() {
        let mut rng = fastrand::Rng::with_seed(1);
        let idle = IdleCompressor::default();
        for size in [TURN_BYTES - 1, TURN_BYTES, TURN_BYTES + 1, 3 * TURN_BYTES] {
            for letters in [1, 64, 255] {
                let bytes: Vec<u8> = std::iter::repeat_with(|| rng.u8(..letters)).take(size).collect();
                assert_eq!(gunzipped(&gzipped([&bytes], &idle).await), bytes, "{size} bytes of {letters}");
                let (one, other) = bytes.split_at(rng.usize(..size));
                assert_eq!(gunzipped(&gzipped([one, other], &idle).await), bytes, "{} and more", one.len());
            }
        }
    }

    #[tokio::test]
    async fn many_small_chunks_yield() {
        let chunks = vec![Bytes::from_static(&[7; 100]); TURN_BYTES / 50];
        let idle = IdleCompressor::default();
        let mut encoded = std::pin::pin!(encode(chunks, Compression::Gzip, &idle));
        let once = std::future::poll_fn(|context| Poll::Ready(encoded.as_mut().poll(context).is_pending()));
        assert!(once.await);
    }

    #[tokio::test]
    async fn concurrent_bodies_do_not_mix() {
        let idle = IdleCompressor::default();
        let (one, other) = (vec![1; 3 * TURN_BYTES], vec![2; 3 * TURN_BYTES]);
        let (first, second) = tokio::join!(gzipped([&one], &idle), gzipped([&other], &idle));
        assert_eq!((gunzipped(&first), gunzipped(&second)), (one, other));
    }

    #[tokio::test]
    async fn cancelled_body_leaves_a_fresh_compressor() {
        let idle = IdleCompressor::default();
        let fresh = gzipped([b"one"], &IdleCompressor::default()).await;
        let long = vec![7; 3 * TURN_BYTES];
        {
            let mut cancelled = std::pin::pin!(gzipped([&long], &idle));
            let once = std::future::poll_fn(|context| Poll::Ready(cancelled.as_mut().poll(context)));
            assert!(once.await.is_pending());
            assert!(idle.0.lock().expect("a lock").is_some());
            assert_eq!(gzipped([b"one"], &idle).await, fresh);
        }
        assert!(idle.0.lock().expect("a lock").is_some());
        assert_eq!(gzipped([b"one"], &idle).await, fresh);
    }
}
