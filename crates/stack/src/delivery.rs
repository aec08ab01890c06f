//! The body of a response on its way to the peer.

use std::{
    mem::take,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body};

use crate::bounds::Bounds;

/// How much of a long chunk follows in a chunk of its own, in bytes. HTTP/2 takes a
/// chunk as a whole when the peer has room for one byte of it, and with the last
/// chunk it takes the stream out of our hands. So the last one is short. h2 copies
/// a chunk as short as this, and sends it along with what follows. Cut there, base64
/// of gRPC-Web stays whole: four letters are three bytes.
const TAIL: usize = 252;

/// How long a chunk is that is cut, in bytes.
const LONG: usize = 4 << 10;

/// Gives back what a call holds when the transport has written it.
pub(crate) struct Delivery {
    body: Body,
    bounds: Arc<Bounds>,
    tail: Bytes,
}

impl Delivery {
    pub(crate) fn new(body: Body, bounds: Arc<Bounds>) -> Self {
        Self { body, bounds, tail: Bytes::new() }
    }

    /// Until the last of what belongs together is written, all of it is there.
    fn charged(&self, bytes: Bytes) -> Charged {
        let amount = if self.tail.is_empty() { self.bounds.held.passed() } else { 0 };
        Charged { bytes, amount, bounds: self.bounds.clone() }
    }
}

impl http_body::Body for Delivery {
    type Data = Charged;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Charged>, Status>>> {
        let this = &mut *self;
        if !this.tail.is_empty() {
            let tail = take(&mut this.tail);
            return Poll::Ready(Some(Ok(Frame::data(this.charged(tail)))));
        }
        let Some(frame) = ready!(Pin::new(&mut this.body).poll_frame(cx)?) else { return Poll::Ready(None) };
        let frame = frame.map_data(|mut data| {
            if data.len() > LONG {
                this.tail = data.split_off(data.len() - TAIL);
            }
            this.charged(data)
        });
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.tail.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A chunk that its call holds until it is written.
pub(crate) struct Charged {
    bytes: Bytes,
    amount: usize,
    bounds: Arc<Bounds>,
}

impl Drop for Charged {
    fn drop(&mut self) {
        self.bounds.held.give_back(self.amount);
    }
}

impl Buf for Charged {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    // Such as into the buffer of HTTP/1.1, without a copy in between.
    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        self.bytes.copy_to_bytes(length)
    }
}
