//! One dimension of stored chunks, cut at arbitrary places.
//!
//! Problem: blocks end at rows, chunks end where they like, and inflating a
//! border chunk twice costs as much as any other chunk. Solution: blocks share a
//! border chunk, and whoever needs it first decodes it for all. Nobody waits longer
//! than one chunk takes, in whatever order blocks are worked on.
//!
//! Memory: a chunk is held as stored and decoded, whole. Chunks that do not fit
//! the budget decoded (all values in one chunk, say) are refused before they are
//! read ([`check_chunks`]), and so are blocks whose entries do not fit.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::ctx::Ctx;
use crate::error::Result;
use crate::h5ad::filters::Inflater;
use crate::h5ad::raw::RawArray;

/// A chunk that several blocks need.
struct Shared(Mutex<State>);

enum State {
    /// As stored, with its filter mask.
    Stored(Vec<u8>, u32),
    Decoded(Arc<Vec<u8>>),
}

impl Shared {
    /// The chunk's bytes, decoded now if this is the first to need them.
    fn get(&self, array: &RawArray, inflater: &mut Inflater) -> Result<Arc<Vec<u8>>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Decoded(bytes) => Ok(Arc::clone(bytes)),
            State::Stored(raw, mask) => {
                let mut bytes = Vec::new();
                inflate(array, raw, *mask, inflater, &mut bytes)?;
                let bytes = Arc::new(bytes);
                *state = State::Decoded(Arc::clone(&bytes));
                Ok(bytes)
            }
        }
    }
}

/// One chunk that a block needs.
enum Part {
    /// Stored bytes with their filter mask, for this block alone.
    Owned(Vec<u8>, u32),
    /// On the border to another block.
    Border(Arc<Shared>),
    /// Decoded by libhdf5: exactly the elements needed.
    Plain(Vec<u8>),
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
                parts.push((Part::Border(Arc::clone(shared)), within));
                // The last block that needs a chunk reads it to its end.
                if to == (first + chunk).min(n) {
                    self.borders.remove(&index);
                }
                continue;
            }
            let mut raw = Vec::new();
            match self.array.read_chunk(&[first], &mut raw)? {
                Some(mask) if to == span.end && to < (first + chunk).min(n) => {
                    let shared = Arc::new(Shared(Mutex::new(State::Stored(raw, mask))));
                    self.borders.insert(index, Arc::clone(&shared));
                    if self.borders.len() > MOST_BORDERS {
                        self.borders.pop_first();
                    }
                    parts.push((Part::Border(shared), within));
                }
                Some(mask) => parts.push((Part::Owned(raw, mask), within)),
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
        Cursor::new(self, array, buffer).take(n, inflater, take)
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
    /// Starts on `pieces`.
    pub(crate) fn new(pieces: Pieces, array: &'b RawArray, buffer: &'b mut Vec<u8>) -> Self {
        Cursor { array, parts: VecDeque::from(pieces.parts), buffer, begun: false }
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
                Part::Owned(raw, mask) => {
                    if !self.begun {
                        inflate(self.array, raw, *mask, inflater, self.buffer)?;
                        self.begun = true;
                    }
                    sink(&self.buffer[bytes])?;
                }
                Part::Border(shared) => sink(&shared.get(self.array, inflater)?[bytes])?,
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
