//! The response body for both protocols.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// A body that is known as a whole: data and, over gRPC, trailers.
#[derive(Default)]
pub(super) struct ResponseBody {
    frames: std::vec::IntoIter<Frame<Bytes>>,
    /// The number of data bytes left.
    len: u64,
}

impl ResponseBody {
    /// Creates a body of data frames and optional trailers.
    pub(super) fn of(frames: Vec<Frame<Bytes>>) -> Self {
        let len = frames.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum();
        Self { frames: frames.into_iter(), len }
    }
}

impl Body for ResponseBody {
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
