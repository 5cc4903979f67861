//! A request's body: the chunks laid end to end, compressed or as they are.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use flate2::{Compress, Crc, FlushCompress, Status};

use crate::core::config::Compression;
use crate::edge::http_client::Parts;

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
    pub(super) fn body(&self, prefix: Bytes) -> Parts {
        std::iter::once(prefix).chain(self.parts.iter().cloned()).collect()
    }
}

/// How much is compressed in one turn: less than a millisecond's work on a whole core. A little more, and the compressor would
/// have moved its window on, with 192 kB of hashes that point into it, and taken as long for that as for compressing.
const TURN: usize = 63 * 1024;
/// What is compressed is put by once it has come to so much.
const PART: usize = 16 * 1024;

/// Encodes a body. Uncompressed it is the chunks themselves, without a copy. Between its turns other tasks have theirs, above
/// all the one that keeps the deadlines.
pub(super) async fn encode(chunks: Vec<Bytes>, compression: Compression, idle: &Idle) -> Encoded {
    let encoder = match compression {
        // Of nothing, a compression would make some twenty bytes.
        _ if chunks.is_empty() => None,
        Compression::None => None,
        Compression::Gzip => Some(Encoder::Gzip(Gzip::new(idle))),
        Compression::Zstd => Encoder::zstd().ok(),
    };
    let Some(encoder) = encoder else { return Encoded { parts: chunks.into(), encoding: None } };
    match compressed(&chunks, encoder).await {
        Ok((parts, encoding)) => Encoded { parts, encoding: Some(encoding) },
        // Writing to memory does not fail; if it did, the body is still good as it is.
        Err(_) => Encoded { parts: chunks.into(), encoding: None },
    }
}

async fn compressed(
    chunks: &[Bytes],
    mut encoder: Encoder<'_>,
) -> io::Result<(VecDeque<Bytes>, &'static str)> {
    let mut room = TURN;
    for chunk in chunks {
        let mut rest = chunk.as_ref();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(room));
            encoder.write(now)?;
            rest = later;
            room -= now.len();
            if room == 0 {
                room = TURN;
                encoder.pause()?;
                tokio::task::yield_now().await;
            }
        }
    }
    encoder.finish()
}

/// A compression under way, at level 1: what compresses harder is paid for in the function's billed time.
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

    /// Leaves to others what they can use while this has no turn.
    fn pause(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.pause(),
            Self::Zstd(_) => Ok(()),
        }
    }

    /// What came of it, in parts, and its name.
    fn finish(self) -> io::Result<(VecDeque<Bytes>, &'static str)> {
        match self {
            Self::Gzip(encoder) => Ok((encoder.finish()?, "gzip")),
            Self::Zstd(encoder) => Ok((VecDeque::from([Bytes::from(encoder.finish()?)]), "zstd")),
        }
    }
}

/// A compressor that is not in use. It has nearly 400 kilobytes, which would be taken and cleared for each request, and given
/// back in pieces that nothing else fits. Bodies that are encoded at the same time use it by turns.
#[derive(Clone, Debug, Default)]
pub(super) struct Idle(Arc<Mutex<Option<Compress>>>);

impl Idle {
    fn take(&self) -> Compress {
        let idle = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        idle.unwrap_or_else(|| Compress::new(flate2::Compression::fast(), false))
    }

    /// Takes one back, which is to know nothing of what it has compressed.
    fn put_back(&self, mut deflate: Compress) {
        deflate.reset();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(deflate);
    }
}

/// RFC 1952 around a compressor that is used again, which flate2's own encoder cannot do.
struct Gzip<'a> {
    idle: &'a Idle,
    /// Only while it has its turn.
    deflate: Option<Compress>,
    /// What it has made since the last of the parts.
    made: Vec<u8>,
    /// One buffer that grows to hold all would leave twice its size in pieces behind.
    parts: VecDeque<Bytes>,
    crc: Crc,
}

impl<'a> Gzip<'a> {
    /// Deflate, no flags, no time, compressed fast, on an unknown system.
    const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];
    /// Whenever the compressor is called, it finds room for so much at least.
    const ROOM: usize = 512;

    fn new(idle: &'a Idle) -> Self {
        Self { idle, deflate: None, made: Self::HEAD.into(), parts: VecDeque::new(), crc: Crc::new() }
    }

    fn write_all(&mut self, slice: &[u8]) -> io::Result<()> {
        self.crc.update(slice);
        self.compress(slice, FlushCompress::None)?;
        if self.made.len() >= PART {
            self.parts.push_back(Bytes::copy_from_slice(&self.made));
            self.made.clear();
        }
        Ok(())
    }

    /// What comes next stands on its own, after a whole byte.
    fn pause(&mut self) -> io::Result<()> {
        self.compress(&[], FlushCompress::Sync)?;
        self.put_back();
        Ok(())
    }

    fn finish(mut self) -> io::Result<VecDeque<Bytes>> {
        self.compress(&[], FlushCompress::Finish)?;
        self.put_back();
        self.made.extend(self.crc.sum().to_le_bytes());
        self.made.extend(self.crc.amount().to_le_bytes());
        self.parts.push_back(self.made.into());
        Ok(self.parts)
    }

    /// Has all of it compressed, and what was asked for done to the end.
    fn compress(&mut self, mut bytes: &[u8], flush: FlushCompress) -> io::Result<()> {
        let deflate = self.deflate.get_or_insert_with(|| self.idle.take());
        loop {
            self.made.reserve(Self::ROOM + bytes.len() / 4);
            let before = deflate.total_in();
            let status = deflate.compress_vec(bytes, &mut self.made, flush)?;
            let taken = usize::try_from(deflate.total_in() - before).unwrap_or(usize::MAX);
            bytes = bytes.get(taken..).unwrap_or_default();
            // With room to spare it has nothing more to say.
            if status == Status::StreamEnd || bytes.is_empty() && self.made.len() < self.made.capacity() {
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
        let long = vec![7; 3 * TURN + 1];
        let first = gzipped([b"one", b"two"], &idle).await;
        assert_eq!(gunzipped(&first), b"onetwo");
        assert!(idle.0.lock().expect("a lock").is_some());
        assert_eq!(gunzipped(&gzipped([&long], &idle).await), long);
        assert_eq!(gzipped([b"one", b"two"], &idle).await, first);
    }

    #[tokio::test]
    async fn what_is_compressed_comes_in_parts_of_a_size() {
        let mut rng = fastrand::Rng::with_seed(1);
        let bytes: Vec<u8> = std::iter::repeat_with(|| rng.u8(..64)).take(9 * TURN + 1).collect();
        let encoded =
            encode(vec![bytes.clone().into(), bytes.clone().into()], Compression::Gzip, &Idle::default())
                .await;
        assert!(encoded.parts.len() > 9 && encoded.parts.iter().all(|part| part.len() < PART + TURN));
        let compressed: Vec<u8> = encoded.parts.into_iter().flatten().collect();
        assert_eq!(gunzipped(&compressed), bytes.repeat(2));
    }

    #[tokio::test]
    async fn bodies_around_the_size_of_the_window_come_out_as_they_went_in() {
        let mut rng = fastrand::Rng::with_seed(1);
        let idle = Idle::default();
        for size in [TURN - 1, TURN, TURN + 1, 3 * TURN] {
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
        let chunks = vec![Bytes::from_static(&[7; 100]); TURN / 50];
        let idle = Idle::default();
        let mut encoded = std::pin::pin!(encode(chunks, Compression::Gzip, &idle));
        let once = std::future::poll_fn(|context| Poll::Ready(encoded.as_mut().poll(context).is_pending()));
        assert!(once.await);
    }

    #[tokio::test]
    async fn bodies_that_are_compressed_at_the_same_time_do_not_mix() {
        let idle = Idle::default();
        let (one, other) = (vec![1; 3 * TURN], vec![2; 3 * TURN]);
        let (first, second) = tokio::join!(gzipped([&one], &idle), gzipped([&other], &idle));
        assert_eq!((gunzipped(&first), gunzipped(&second)), (one, other));
    }

    #[tokio::test]
    async fn one_that_waits_or_is_called_off_leaves_a_compressor_that_knows_nothing_of_it() {
        let idle = Idle::default();
        let fresh = gzipped([b"one"], &Idle::default()).await;
        let long = vec![7; 3 * TURN];
        {
            let mut called_off = std::pin::pin!(gzipped([&long], &idle));
            let once = std::future::poll_fn(|context| Poll::Ready(called_off.as_mut().poll(context)));
            assert!(once.await.is_pending());
            assert!(idle.0.lock().expect("a lock").is_some());
            assert_eq!(gzipped([b"one"], &idle).await, fresh);
        }
        assert!(idle.0.lock().expect("a lock").is_some());
        assert_eq!(gzipped([b"one"], &idle).await, fresh);
    }
}
