//! One dimension of stored chunks, cut at arbitrary places.
//!
//! Problem: blocks end at rows, chunks end where they like, and inflating a
//! border chunk twice costs as much as any other chunk. Solution: the block
//! that meets a chunk first owns it; if the next block needs it too, the owner
//! publishes the decoded bytes before it does anything else, and the other
//! block waits for them. Jobs start in order, so whoever waits waits for a job
//! that already runs, or in its worker's queue precedes all that wait for it. A job
//! that is dropped before it ran releases those who wait.
//!
//! Memory: a chunk is held as stored and decoded, whole. Chunks that do not fit
//! the budget decoded (all values in one chunk, say) are refused before they are
//! read ([`check_chunks`]), and so are blocks whose entries do not fit.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::h5ad::filters::Inflater;
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
    Ready(Arc<Vec<u8>>),
    Abandoned,
}

impl Shared {
    fn publish(&self, bytes: Vec<u8>) {
        self.set(State::Ready(Arc::new(bytes)));
    }

    fn set(&self, state: State) {
        let mut slot = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*slot, State::Pending) {
            *slot = state;
            self.ready.notify_all();
        }
    }

    fn get(&self) -> Result<Arc<Vec<u8>>> {
        let mut slot = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &*slot {
                State::Ready(bytes) => return Ok(Arc::clone(bytes)),
                // The owner met an error, which is reported instead of this one.
                State::Abandoned => return Err(Error::Interrupted),
                State::Pending => {
                    slot = self.ready.wait(slot).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

/// One chunk that a block needs.
enum Part {
    /// Stored bytes with their filter mask; published where `shared` is kept by others.
    Owned { raw: Vec<u8>, mask: u32, shared: Arc<Shared>, is_border: bool },
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

/// Refuses arrays whose chunks do not fit the budget.
///
/// # Errors
/// [`Error::OverBudget`], with the bytes of one decoded chunk of each array.
pub(crate) fn check_chunks(element: &str, arrays: &[&RawArray], ctx: &Ctx) -> Result<()> {
    let bytes = arrays.iter().map(|array| array.chunk_bytes()).fold(0, u64::saturating_add);
    ctx.check_budget(|| format!("one chunk of `{element}`"), bytes)
}

/// Borders kept for blocks to come. Blocks of several runs are fetched in turn,
/// so there can be one for each run in work.
const MOST_BORDERS: usize = 64;

/// Fetches pieces of a one-dimensional array, mostly in increasing order.
pub(crate) struct Stream {
    array: Arc<RawArray>,
    borders: BTreeMap<u64, Arc<Shared>>,
}

impl Stream {
    pub(crate) fn new(array: Arc<RawArray>) -> Self {
        Stream { array, borders: BTreeMap::new() }
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
        let (Some(_), Some(&[chunk])) = (self.array.pipeline(), self.array.chunk.as_deref()) else {
            parts.push((self.plain(span.clone())?, 0..(span.end - span.start) as usize));
            return Ok(Pieces { parts });
        };
        let n = self.array.dims[0];
        for index in span.start / chunk..=(span.end - 1) / chunk {
            let first = index * chunk;
            let from = span.start.max(first);
            let to = span.end.min(first + chunk);
            let within = (from - first) as usize..(to - first) as usize;
            if let Some(shared) = self.borders.get(&index) {
                parts.push((Part::Borrowed(Arc::clone(shared)), within));
                // The last block that needs a chunk reads it to its end.
                if to == (first + chunk).min(n) {
                    self.borders.remove(&index);
                }
                continue;
            }
            let mut raw = Vec::new();
            match self.array.read_chunk(&[first], &mut raw)? {
                Some(mask) => {
                    let shared = Arc::new(Shared::default());
                    let is_border = to == span.end && to < (first + chunk).min(n);
                    if is_border {
                        self.borders.insert(index, Arc::clone(&shared));
                        if self.borders.len() > MOST_BORDERS {
                            self.borders.pop_first();
                        }
                    }
                    parts.push((Part::Owned { raw, mask, shared, is_border }, within));
                }
                // Never written: the library knows the fill value.
                None => parts.push((self.plain(from..to)?, 0..(to - from) as usize)),
            }
        }
        Ok(Pieces { parts })
    }

    fn plain(&self, span: Range<u64>) -> Result<Part> {
        let mut bytes = Vec::new();
        self.array.read_slab(&[span.start], &[span.end - span.start], &mut bytes)?;
        Ok(Part::Plain(bytes))
    }
}

impl Pieces {
    /// All pieces at once: `take` gets the bytes of each in turn.
    pub(crate) fn decode(
        self,
        array: &RawArray,
        inflater: &mut Inflater,
        buffer: &mut Vec<u8>,
        take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let n = self.parts.iter().map(|(_, within)| within.len()).sum();
        Cursor::new(self, array, inflater, buffer)?.take(n, inflater, take)
    }
}

/// Decodes pieces chunk by chunk as their elements are asked for, so that the
/// bytes are used while they are in the cache.
pub(crate) struct Cursor<'b> {
    array: &'b RawArray,
    parts: VecDeque<(Part, Range<usize>)>,
    /// Decoded bytes of the first part, where it is owned and has been begun.
    buffer: &'b mut Vec<u8>,
    begun: bool,
}

impl<'b> Cursor<'b> {
    /// Starts on `pieces`. A border chunk is decoded right away, because another
    /// worker may be waiting for it.
    pub(crate) fn new(
        pieces: Pieces,
        array: &'b RawArray,
        inflater: &mut Inflater,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Self> {
        let mut parts = VecDeque::from(pieces.parts);
        if let Some((part, _)) = parts.back_mut() {
            if let Part::Owned { raw, mask, shared, is_border: true } = part {
                inflate(array, raw, *mask, inflater, buffer)?;
                // Given away: the next chunk makes another buffer.
                shared.publish(std::mem::take(buffer));
                *part = Part::Borrowed(Arc::clone(shared));
            }
        }
        Ok(Cursor { array, parts, buffer, begun: false })
    }

    /// Hands the bytes of the next `n` elements to `sink`, in one or more calls.
    pub(crate) fn take(
        &mut self,
        mut n: usize,
        inflater: &mut Inflater,
        mut sink: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let width = self.array.dtype.bytes();
        while n > 0 {
            let Some((part, left)) = self.parts.front_mut() else {
                return Err(self.array.corrupt("it ends early".into()));
            };
            let count = n.min(left.len());
            let bytes = left.start * width..(left.start + count) * width;
            match part {
                Part::Owned { raw, mask, .. } => {
                    if !self.begun {
                        inflate(self.array, raw, *mask, inflater, self.buffer)?;
                        self.begun = true;
                    }
                    sink(&self.buffer[bytes])?;
                }
                Part::Borrowed(shared) => sink(&shared.get()?[bytes])?,
                Part::Plain(plain) => sink(&plain[bytes])?,
            }
            left.start += count;
            n -= count;
            if left.start == left.end {
                self.parts.pop_front();
                self.begun = false;
            }
        }
        Ok(())
    }
}

fn inflate(
    array: &RawArray,
    raw: &[u8],
    mask: u32,
    inflater: &mut Inflater,
    buffer: &mut Vec<u8>,
) -> Result<()> {
    let pipeline = array.pipeline().expect("chunks are fetched raw only where a pipeline exists");
    pipeline.decode(raw, mask, inflater, buffer).map_err(|reason| array.corrupt(reason))
}
