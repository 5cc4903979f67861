//! A request's body: the chunks laid end to end, compressed or as they are.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::{Compress, Crc, FlushCompress, Status};
use http_body::{Body, Frame, SizeHint};

use crate::core::config::Compression;

/// An encoded body, which can be sent more than once.
pub(super) struct Encoded {
    parts: VecDeque<Bytes>,
    /// The name, in HTTP and in gRPC, of the compression of `parts`.
    pub(super) encoding: Option<&'static str>,
}

impl Encoded {
    /// Bytes in all.
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    /// The body to send, with `prefix` before it.
    pub(super) fn body(&self, prefix: Bytes) -> reqwest::Body {
        let mut parts = VecDeque::with_capacity(self.parts.len() + 1);
        parts.push_back(prefix);
        parts.extend(self.parts.iter().cloned());
        parts.retain(|part| !part.is_empty());
        reqwest::Body::wrap(Parts(parts))
    }
}

/// How much is compressed in one go: less than a millisecond's work on a whole core.
const SLICE: usize = 32 * 1024;
/// What is compressed is put by once it has come to so much.
const PART: usize = 16 * 1024;

/// Encodes a body. Uncompressed it is the chunks themselves, without a copy. Between slices other tasks have their turn,
/// above all the one that keeps the deadlines.
pub(super) async fn encode(chunks: Vec<Bytes>, compression: Compression, idle: &Idle) -> Encoded {
    let encoder = match compression {
        // Of nothing, a compression would make some twenty bytes.
        _ if chunks.is_empty() => None,
        Compression::None => None,
        Compression::Gzip => Some(Encoder::Gzip(Gzip::new(idle))),
        Compression::Zstd => Encoder::zstd().ok(),
    };
    let Some(mut encoder) = encoder else { return Encoded { parts: chunks.into(), encoding: None } };
    let mut done = 0;
    for slice in chunks.iter().flat_map(|chunk| chunk.chunks(SLICE)) {
        if encoder.write(slice).is_err() {
            // Writing to memory does not fail; if it did, the body is still good as it is.
            return Encoded { parts: chunks.into(), encoding: None };
        }
        done += slice.len();
        if done >= SLICE {
            done = 0;
            tokio::task::yield_now().await;
        }
    }
    match encoder.finish(idle) {
        Ok((parts, encoding)) => Encoded { parts, encoding: Some(encoding) },
        Err(_) => Encoded { parts: chunks.into(), encoding: None },
    }
}

/// A compression under way, at level 1: what compresses harder is paid for in the function's billed time.
enum Encoder {
    Gzip(Gzip),
    Zstd(zstd::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    fn zstd() -> io::Result<Self> {
        Ok(Self::Zstd(zstd::Encoder::new(Vec::new(), 1)?))
    }

    fn write(&mut self, slice: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.write_all(slice),
            Self::Zstd(encoder) => encoder.write_all(slice),
        }
    }

    /// What came of it, in parts, and its name.
    fn finish(self, idle: &Idle) -> io::Result<(VecDeque<Bytes>, &'static str)> {
        match self {
            Self::Gzip(encoder) => Ok((encoder.finish(idle)?, "gzip")),
            Self::Zstd(encoder) => Ok((VecDeque::from([Bytes::from(encoder.finish()?)]), "zstd")),
        }
    }
}

/// A compressor that is not in use. It has nearly 400 kilobytes, which would be taken and cleared for each request, and given
/// back in pieces that nothing else fits.
#[derive(Clone, Debug, Default)]
pub(super) struct Idle(Arc<Mutex<Option<Compress>>>);

impl Idle {
    fn take(&self) -> Option<Compress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put_back(&self, deflate: Compress) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(deflate);
    }
}

/// RFC 1952 around a compressor that is used again, which flate2's own encoder cannot do.
struct Gzip {
    deflate: Compress,
    /// What it has taken since it last began anew.
    taken: usize,
    /// What it has made since the last of the parts.
    made: Vec<u8>,
    /// One buffer that grows to hold all would leave twice its size in pieces behind.
    parts: VecDeque<Bytes>,
    crc: Crc,
}

impl Gzip {
    /// Deflate, no flags, no time, compressed fast, on an unknown system.
    const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];
    /// After so much it begins anew. Soon after, it would have moved its window on, with 192 kB of hashes that point into
    /// it, and taken as long for that as for compressing.
    const WINDOW: usize = 63 * 1024;
    /// Whenever the compressor is called, it finds room for so much at least.
    const ROOM: usize = 512;

    fn new(idle: &Idle) -> Self {
        let deflate = idle.take().unwrap_or_else(|| Compress::new(flate2::Compression::fast(), false));
        Self { deflate, taken: 0, made: Self::HEAD.into(), parts: VecDeque::new(), crc: Crc::new() }
    }

    fn write_all(&mut self, mut slice: &[u8]) -> io::Result<()> {
        self.crc.update(slice);
        while !slice.is_empty() {
            if self.taken == Self::WINDOW {
                // What comes next stands on its own, after a whole byte.
                self.compress(&[], FlushCompress::Sync)?;
                self.deflate.reset();
                self.taken = 0;
            }
            let (now, later) = slice.split_at(slice.len().min(Self::WINDOW - self.taken));
            self.compress(now, FlushCompress::None)?;
            self.taken += now.len();
            slice = later;
        }
        if self.made.len() >= PART {
            self.parts.push_back(Bytes::copy_from_slice(&self.made));
            self.made.clear();
        }
        Ok(())
    }

    fn finish(mut self, idle: &Idle) -> io::Result<VecDeque<Bytes>> {
        self.compress(&[], FlushCompress::Finish)?;
        self.made.extend(self.crc.sum().to_le_bytes());
        self.made.extend(self.crc.amount().to_le_bytes());
        self.parts.push_back(self.made.into());
        self.deflate.reset();
        idle.put_back(self.deflate);
        Ok(self.parts)
    }

    /// Has all of it compressed, and what was asked for done to the end.
    fn compress(&mut self, mut bytes: &[u8], flush: FlushCompress) -> io::Result<()> {
        loop {
            self.made.reserve(Self::ROOM + bytes.len() / 4);
            let before = self.deflate.total_in();
            let status = self.deflate.compress_vec(bytes, &mut self.made, flush)?;
            let taken = usize::try_from(self.deflate.total_in() - before).unwrap_or(usize::MAX);
            bytes = bytes.get(taken..).unwrap_or_default();
            // With room to spare it has nothing more to say.
            if status == Status::StreamEnd || bytes.is_empty() && self.made.len() < self.made.capacity() {
                return Ok(());
            }
        }
    }
}

struct Parts(VecDeque<Bytes>);

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|part| part.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    async fn gzipped<const N: usize>(chunks: [&[u8]; N], idle: &Idle) -> Vec<u8> {
        let chunks = chunks.map(Bytes::copy_from_slice).into();
        let encoded = encode(chunks, Compression::Gzip, idle).await;
        assert_eq!(encoded.encoding, Some("gzip"));
        encoded.parts.into_iter().flatten().collect()
    }

    fn gunzipped(bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        let mut decoder = GzDecoder::new(bytes);
        decoder.read_to_end(&mut plain).expect("gzip");
        assert!(decoder.into_inner().is_empty(), "something stands behind it");
        plain
    }

    #[tokio::test]
    async fn a_compressor_that_is_used_again_knows_nothing_of_what_went_before() {
        let idle = Idle::default();
        let long = vec![7; 3 * SLICE + 1];
        let first = gzipped([b"one", b"two"], &idle).await;
        assert_eq!(gunzipped(&first), b"onetwo");
        assert!(idle.0.lock().expect("a lock").is_some());
        assert_eq!(gunzipped(&gzipped([&long], &idle).await), long);
        assert_eq!(gzipped([b"one", b"two"], &idle).await, first);
    }

    #[tokio::test]
    async fn what_is_compressed_comes_in_parts_of_a_size() {
        let mut rng = fastrand::Rng::with_seed(1);
        let bytes: Vec<u8> = std::iter::repeat_with(|| rng.u8(..64)).take(9 * SLICE + 1).collect();
        let encoded =
            encode(vec![bytes.clone().into(), bytes.clone().into()], Compression::Gzip, &Idle::default())
                .await;
        assert!(encoded.parts.len() > 9 && encoded.parts.iter().all(|part| part.len() < PART + Gzip::WINDOW));
        let compressed: Vec<u8> = encoded.parts.into_iter().flatten().collect();
        assert_eq!(gunzipped(&compressed), bytes.repeat(2));
    }

    #[tokio::test]
    async fn bodies_around_the_size_of_the_window_come_out_as_they_went_in() {
        let mut rng = fastrand::Rng::with_seed(1);
        let idle = Idle::default();
        for size in [Gzip::WINDOW - 1, Gzip::WINDOW, Gzip::WINDOW + 1, 3 * Gzip::WINDOW] {
            for letters in [1, 64, 255] {
                let bytes: Vec<u8> = std::iter::repeat_with(|| rng.u8(..letters)).take(size).collect();
                assert_eq!(gunzipped(&gzipped([&bytes], &idle).await), bytes, "{size} bytes of {letters}");
                let (one, other) = bytes.split_at(rng.usize(..size));
                assert_eq!(gunzipped(&gzipped([one, other], &idle).await), bytes, "{} and more", one.len());
            }
        }
    }

    #[tokio::test]
    async fn many_small_chunks_leave_others_their_turn() {
        let chunks = vec![Bytes::from_static(&[7; 100]); SLICE / 50];
        let idle = Idle::default();
        let mut encoded = std::pin::pin!(encode(chunks, Compression::Gzip, &idle));
        let once = std::future::poll_fn(|context| Poll::Ready(encoded.as_mut().poll(context).is_pending()));
        assert!(once.await);
    }

    #[tokio::test]
    async fn bodies_that_are_compressed_at_the_same_time_do_not_mix() {
        let idle = Idle::default();
        let (one, other) = (vec![1; 3 * SLICE], vec![2; 3 * SLICE]);
        let (first, second) = tokio::join!(gzipped([&one], &idle), gzipped([&other], &idle));
        assert_eq!((gunzipped(&first), gunzipped(&second)), (one, other));
    }

    #[tokio::test]
    async fn one_that_was_called_off_is_not_used_again() {
        let idle = Idle::default();
        drop(gzipped([b"before"], &idle).await);
        let long = vec![7; 3 * SLICE];
        {
            let mut called_off = std::pin::pin!(gzipped([&long], &idle));
            let once = std::future::poll_fn(|context| Poll::Ready(called_off.as_mut().poll(context)));
            assert!(once.await.is_pending());
        }
        assert!(idle.0.lock().expect("a lock").is_none());
        assert_eq!(gunzipped(&gzipped([b"after"], &idle).await), b"after");
    }
}
