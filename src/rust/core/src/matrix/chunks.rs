//! One dimension of stored chunks, cut at arbitrary places.
//!
//! Problem: blocks end at rows, chunks end where they like, and inflating a
//! border chunk twice costs as much as any other chunk. Solution: the block
//! that meets a chunk first owns it; if the next block needs it too, the owner
//! publishes the decoded bytes before it does anything else, and the other
//! block waits for them. Jobs start in order, so whoever waits waits for a job
//! that already runs.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::source::Scratch;
use crate::error::{Error, Result};
use crate::h5ad::raw::RawArray;

/// A chunk's decoded bytes, on their way from their owner to later blocks.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Default)]
enum State {
    #[default]
    Pending,
    Ready(Arc<[u8]>),
    Abandoned,
}

impl Shared {
    fn publish(&self, bytes: &[u8]) {
        self.set(State::Ready(bytes.into()));
    }

    fn set(&self, state: State) {
        let mut slot = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*slot, State::Pending) {
            *slot = state;
            self.ready.notify_all();
        }
    }

    fn get(&self) -> Result<Arc<[u8]>> {
        let mut slot = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &*slot {
                State::Ready(bytes) => return Ok(Arc::clone(bytes)),
                // The owner met an error, which is reported instead of this one.
                State::Abandoned => return Err(Error::Interrupted),
                State::Pending => {
                    slot = self
                        .ready
                        .wait(slot)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

/// One chunk that a block needs.
enum Part {
    /// Stored bytes with their filter mask; published where `shared` is kept by others.
    Owned {
        raw: Vec<u8>,
        mask: u32,
        shared: Arc<Shared>,
        is_border: bool,
    },
    /// Decoded by an earlier block.
    Borrowed(Arc<Shared>),
    /// Decoded by libhdf5: exactly the elements needed.
    Plain(Vec<u8>),
}

/// The part of a job dropped before it ran must not keep others waiting.
impl Drop for Part {
    fn drop(&mut self) {
        if let Part::Owned { shared, .. } = self {
            shared.set(State::Abandoned);
        }
    }
}

/// The pieces of a one-dimensional array for one block.
pub(crate) struct Pieces {
    /// Each part with the range of its elements that belongs to the block.
    parts: Vec<(Part, Range<usize>)>,
}

/// Fetches pieces of a one-dimensional array in increasing order.
pub(crate) struct Stream {
    array: Arc<RawArray>,
    last: Option<(u64, Arc<Shared>)>,
}

impl Stream {
    pub(crate) fn new(array: Arc<RawArray>) -> Self {
        Stream { array, last: None }
    }

    pub(crate) fn array(&self) -> &Arc<RawArray> {
        &self.array
    }

    /// Fetches the elements `span`.
    pub(crate) fn fetch(&mut self, span: Range<u64>) -> Result<Pieces> {
        let mut parts = Vec::new();
        if span.is_empty() {
            return Ok(Pieces { parts });
        }
        let chunk = match (self.array.pipeline(), self.array.chunk.as_deref()) {
            (Some(_), Some(&[chunk])) => chunk,
            _ => {
                parts.push((
                    self.plain(span.clone())?,
                    0..(span.end - span.start) as usize,
                ));
                return Ok(Pieces { parts });
            }
        };
        let n = self.array.dims[0];
        for index in span.start / chunk..=(span.end - 1) / chunk {
            let first = index * chunk;
            let from = span.start.max(first);
            let to = span.end.min(first + chunk);
            let within = (from - first) as usize..(to - first) as usize;
            if let Some((last, shared)) = &self.last {
                if *last == index {
                    parts.push((Part::Borrowed(Arc::clone(shared)), within));
                    continue;
                }
            }
            let mut raw = Vec::new();
            match self.array.read_chunk(&[first], &mut raw)? {
                Some(mask) => {
                    let shared = Arc::new(Shared::default());
                    let is_border = to == span.end && to < (first + chunk).min(n);
                    if is_border {
                        self.last = Some((index, Arc::clone(&shared)));
                    }
                    parts.push((
                        Part::Owned {
                            raw,
                            mask,
                            shared,
                            is_border,
                        },
                        within,
                    ));
                }
                // Never written: the library knows the fill value.
                None => parts.push((self.plain(from..to)?, 0..(to - from) as usize)),
            }
        }
        Ok(Pieces { parts })
    }

    fn plain(&self, span: Range<u64>) -> Result<Part> {
        let mut bytes = Vec::new();
        self.array
            .read_slab(&[span.start], &[span.end - span.start], &mut bytes)?;
        Ok(Part::Plain(bytes))
    }
}

impl Pieces {
    /// Decodes all pieces in order and hands their bytes to `take`.
    pub(crate) fn decode(
        mut self,
        array: &RawArray,
        scratch: &mut Scratch,
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let width = array.dtype.bytes();
        // The border comes first, because another worker may be waiting for it.
        if let Some((
            Part::Owned {
                raw,
                mask,
                shared,
                is_border: true,
            },
            _,
        )) = self.parts.last_mut()
        {
            inflate(array, raw, *mask, scratch)?;
            shared.publish(&scratch.bytes);
            let border = Arc::clone(shared);
            if let Some((part, _)) = self.parts.last_mut() {
                *part = Part::Borrowed(border);
            }
        }
        for (part, within) in &self.parts {
            let bytes = within.start * width..within.end * width;
            match part {
                Part::Owned { raw, mask, .. } => {
                    inflate(array, raw, *mask, scratch)?;
                    take(&scratch.bytes[bytes])?;
                }
                Part::Borrowed(shared) => take(&shared.get()?[bytes])?,
                Part::Plain(plain) => take(&plain[bytes])?,
            }
        }
        Ok(())
    }
}

fn inflate(array: &RawArray, raw: &[u8], mask: u32, scratch: &mut Scratch) -> Result<()> {
    let pipeline = array
        .pipeline()
        .expect("chunks are fetched raw only where a pipeline exists");
    pipeline
        .decode(raw, mask, &mut scratch.inflater, &mut scratch.bytes)
        .map_err(|reason| array.corrupt(reason))
}
