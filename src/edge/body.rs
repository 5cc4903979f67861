//! A message body that is in memory as a whole, for requests to backends and responses of the receiver.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// A body of data frames and, over gRPC, trailers. Its length is known.
#[derive(Debug, Default)]
pub struct WholeBody {
    frames: std::vec::IntoIter<Frame<Bytes>>,
    /// The number of data bytes left.
    len: u64,
}

impl WholeBody {
    /// Creates a body of data frames and optional trailers.
    pub fn of(frames: Vec<Frame<Bytes>>) -> Self {
        let len = frames.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum();
        Self { frames: frames.into_iter(), len }
    }
}

/// Makes a data frame of each part that is not empty.
impl FromIterator<Bytes> for WholeBody {
    fn from_iter<I: IntoIterator<Item = Bytes>>(parts: I) -> Self {
        Self::of(parts.into_iter().filter(|part| !part.is_empty()).map(Frame::data).collect())
    }
}

impl Body for WholeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = self.frames.next();
        self.len -= frame.as_ref().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.as_slice().is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len)
    }
}
