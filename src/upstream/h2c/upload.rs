//! A request's body on its way into an HTTP/2 stream.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as _;
use tokio::task::AbortHandle;

use crate::proxy::request_body::RequestBody;

/// An upload under way. It is given up when this is dropped, and the stream with it.
#[derive(Debug)]
pub struct Upload(Option<AbortHandle>);

impl Upload {
    /// There is no body.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// Sends `body` over `stream` from now on.
    #[must_use]
    pub fn start(body: RequestBody, stream: SendStream<Bytes>) -> Self {
        Self(Some(tokio::task::spawn_local(send(body, stream)).abort_handle()))
    }

    /// Lets it go on by itself: the answer is whole, and came early.
    pub fn leave(&mut self) {
        self.0 = None;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

async fn send(mut body: RequestBody, mut stream: SendStream<Bytes>) {
    loop {
        let frame = poll_fn(|cx| {
            // The application wants no more of it, or the connection is gone.
            if stream.poll_reset(cx).is_ready() {
                return Poll::Ready(None);
            }
            Pin::new(&mut body).poll_frame(cx).map(Some)
        });
        let data = match frame.await {
            None => return,
            Some(None) => {
                let _ = stream.send_data(Bytes::new(), true);
                return;
            }
            Some(Some(Err(_))) => return stream.send_reset(Reason::CANCEL),
            Some(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => data,
                Err(frame) => {
                    stream.reserve_capacity(0);
                    let _ = stream.send_trailers(frame.into_trailers().unwrap_or_default());
                    return;
                }
            },
        };
        let is_last = body.is_end_stream();
        if (!data.is_empty() && !has_room(&mut stream).await)
            || stream.send_data(data, is_last).is_err()
            || is_last
        {
            return;
        }
    }
}

/// Waits until the application takes something. A claim is made only when there is something to
/// send, and a small one: what one stream has claimed of the connection's window, no other gets.
async fn has_room(stream: &mut SendStream<Bytes>) -> bool {
    stream.reserve_capacity(1);
    poll_fn(|cx| {
        while stream.capacity() == 0 {
            if stream.poll_reset(cx).is_ready() {
                return Poll::Ready(false);
            }
            match stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return Poll::Ready(false),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(true)
    })
    .await
}
