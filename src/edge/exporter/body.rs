//! A request's body: the chunks laid end to end, compressed or as they are.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::write::GzEncoder;
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
const SLICE: usize = 64 * 1024;

/// Encodes a body. Uncompressed it is the chunks themselves, without a copy. Between slices other tasks have their turn,
/// above all the one that keeps the deadlines.
pub(super) async fn encode(chunks: Vec<Bytes>, compression: Compression) -> Encoded {
    let encoder = match compression {
        // Of nothing, a compression would make some twenty bytes.
        _ if chunks.is_empty() => None,
        Compression::None => None,
        Compression::Gzip => Some(Encoder::gzip()),
        Compression::Zstd => Encoder::zstd().ok(),
    };
    let Some(mut encoder) = encoder else { return Encoded { parts: chunks.into(), encoding: None } };
    for slice in chunks.iter().flat_map(|chunk| chunk.chunks(SLICE)) {
        if encoder.write(slice).is_err() {
            // Writing to memory does not fail; if it did, the body is still good as it is.
            return Encoded { parts: chunks.into(), encoding: None };
        }
        if slice.len() == SLICE {
            tokio::task::yield_now().await;
        }
    }
    match encoder.finish() {
        Ok((compressed, encoding)) => {
            Encoded { parts: VecDeque::from([Bytes::from(compressed)]), encoding: Some(encoding) }
        }
        Err(_) => Encoded { parts: chunks.into(), encoding: None },
    }
}

/// A compression under way, at level 1: what compresses harder is paid for in the function's billed time.
enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    fn gzip() -> Self {
        Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::fast()))
    }

    fn zstd() -> io::Result<Self> {
        Ok(Self::Zstd(zstd::Encoder::new(Vec::new(), 1)?))
    }

    fn write(&mut self, slice: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.write_all(slice),
            Self::Zstd(encoder) => encoder.write_all(slice),
        }
    }

    /// What came of it, and its name.
    fn finish(self) -> io::Result<(Vec<u8>, &'static str)> {
        match self {
            Self::Gzip(encoder) => Ok((encoder.finish()?, "gzip")),
            Self::Zstd(encoder) => Ok((encoder.finish()?, "zstd")),
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
