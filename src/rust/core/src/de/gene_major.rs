//! The values of a view gene by gene, in bounded memory, from one read of the
//! row-major matrix.
//!
//! Every block is turned around where it is decoded (see [`turn`](super::turn)).
//! Pieces stay in memory while they fit; the others go to a spill file in the
//! scratch directory and come back by slices of genes. What a gene's values are
//! and their order do not depend on where its pieces lie.
//!
//! Memory: 2 bytes a nonzero value and 12 a distinct value of a row, where values repeat
//! in their rows as counts do, scaled or not; otherwise 9 bytes a nonzero value (10 or 12 with
//! more than 256 or 65,536 groups). Up to two thirds of the budget less 96 MB a thread, a third
//! for what is read back; at least the values of one gene. Disk: what is past that, but for
//! distinct values, which stay in memory.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::dictionary::{Dictionary, ENTRY};
use super::groups::Groups;
use super::piece::{Layout, LoadedPiece, OFFSET, PieceView, count_genes, record_width};
use super::spill::Spill;
use super::turn::{REPEATS, Turner};
use super::value_order::ValueOrder;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::matrix::Source;
use crate::pass::{SLAB_VALUES, partial_body, partial_header, stream_runs};
use crate::transform::View;

/// What decoding takes of the budget, for each thread.
const THREAD_BYTES: u64 = 96 << 20;

/// Tells these partials from those of other passes.
const MAGIC: &[u8; 8] = b"by genes";

/// The values of a block or of a part of it, in memory or in the spill file.
struct Piece {
    /// Pieces of one block come in their order.
    block: usize,
    /// Stays in memory.
    dictionary: Option<Dictionary>,
    n_bytes: usize,
    place: Place,
}

impl Piece {
    fn layout(&self, n_genes: usize, n_groups: usize) -> Result<Layout> {
        Layout::new(n_genes, record_width(self.dictionary.as_ref(), n_groups), self.n_bytes)
    }
}

enum Place {
    Memory(Vec<u8>),
    Spill(u64),
}

/// Pieces as they come, from several threads.
struct Collector<'a> {
    scratch: &'a Path,
    resident_most: u64,
    resident: AtomicU64,
    n_groups: usize,
    spill: OnceLock<Spill>,
    /// Pieces, and bytes of each gene in the spill file.
    pieces: Mutex<(Vec<Piece>, Vec<u64>)>,
}

impl<'a> Collector<'a> {
    fn new(ctx: &'a Ctx<'_>, n_vars: usize, n_groups: usize) -> Self {
        Collector {
            scratch: ctx.scratch(),
            resident_most: for_pieces(ctx) / 3 * 2,
            resident: AtomicU64::new(0),
            n_groups,
            spill: OnceLock::new(),
            pieces: Mutex::new((Vec::new(), vec![0; n_vars])),
        }
    }

    /// Keeps a piece, wherever there is room.
    fn add(&self, block: usize, bytes: Vec<u8>, dictionary: Option<Dictionary>) -> Result<()> {
        let n_bytes = bytes.len();
        let always = dictionary.as_ref().map_or(0, |dictionary| ENTRY * dictionary.len());
        let both = (n_bytes + always) as u64;
        let held = self.resident.fetch_add(both, Ordering::Relaxed) + both;
        let place = if held <= self.resident_most {
            Place::Memory(bytes)
        } else {
            self.resident.fetch_sub(n_bytes as u64, Ordering::Relaxed);
            let at = self.spill()?.append(&bytes)?;
            let record = record_width(dictionary.as_ref(), self.n_groups);
            let mut pieces = self.lock();
            count_genes(&bytes, record, &mut pieces.1);
            Place::Spill(at)
        };
        self.lock().0.push(Piece { block, dictionary, n_bytes, place });
        Ok(())
    }

    fn spill(&self) -> Result<&Spill> {
        if let Some(spill) = self.spill.get() {
            return Ok(spill);
        }
        // Another thread may be first; its file is as good, this one vanishes.
        let spill = Spill::new(self.scratch)?;
        Ok(self.spill.get_or_init(|| spill))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Vec<Piece>, Vec<u64>)> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(self, n_vars: usize) -> GeneMajor {
        let (mut pieces, spilled) =
            self.pieces.into_inner().unwrap_or_else(PoisonError::into_inner);
        pieces.sort_by_key(|piece| piece.block);
        let n_groups = self.n_groups;
        GeneMajor { n_vars, n_groups, pieces, spilled, spill: self.spill.into_inner() }
    }
}

fn for_pieces(ctx: &Ctx) -> u64 {
    let memory = ctx.memory_bytes();
    memory.saturating_sub(THREAD_BYTES * ctx.threads() as u64).max(memory / 4)
}

/// The values of a view by gene, with the group of each.
pub struct GeneMajor {
    n_vars: usize,
    n_groups: usize,
    pieces: Vec<Piece>,
    /// Bytes of each gene in the spill file.
    spilled: Vec<u64>,
    spill: Option<Spill>,
}

impl GeneMajor {
    /// Reads the cells of `groups`, all ranges or those given.
    ///
    /// # Errors
    /// As [`stream`]; when a value is not finite; when spilling fails.
    pub fn read(
        source: &dyn Source,
        view: &View,
        ctx: &Ctx,
        groups: &Groups,
        range: Option<usize>,
    ) -> Result<Self> {
        Self::read_where(REPEATS, source, view, ctx, groups, range)
    }

    /// [`GeneMajor::read`] with dictionaries where values repeat so often in their rows.
    pub(super) fn read_where(
        repeats: usize,
        source: &dyn Source,
        view: &View,
        ctx: &Ctx,
        groups: &Groups,
        range: Option<usize>,
    ) -> Result<Self> {
        groups.check_rows(view.n_obs())?;
        let grid = source.grid();
        let ranges = match range {
            None => 0..grid.n_ranges(),
            Some(range) if range < grid.n_ranges() => range..range + 1,
            Some(_) => {
                let message = format!("ranges must lie below {}", grid.n_ranges());
                return Err(Error::InvalidInput { argument: "ranges", message });
            }
        };
        let blocks = ranges.flat_map(|range| grid.blocks(range));
        let runs: Vec<Vec<usize>> =
            blocks.filter(|&b| view.touches(&grid.rows(b))).map(|b| vec![b]).collect();
        let (view, log) = match view.leaving_log() {
            Some((view, log)) => (view, Some(log)),
            None => (view.clone(), None),
        };
        let (n_vars, n_groups) = (view.n_vars(), groups.n_groups());
        let collector = Collector::new(ctx, n_vars, n_groups);
        let turners: Mutex<Vec<Turner>> = Mutex::default();
        stream_runs(source, &view, ctx, "reading values", &runs, SLAB_VALUES, |number, run| {
            let spare = turners.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut turner = spare.unwrap_or_else(|| Turner::new(n_vars, repeats));
            let block = runs[number][0];
            let keep = |turner: &mut Turner| match turner.turn(n_groups) {
                Some((bytes, dictionary)) => collector.add(block, bytes, dictionary),
                None => Ok(()),
            };
            run.for_each(|_, slab| turner.take(slab, log.as_ref(), groups, keep))?;
            keep(&mut turner)?;
            turners.lock().unwrap_or_else(PoisonError::into_inner).push(turner);
            Ok(())
        })?;
        Ok(collector.finish(n_vars))
    }

    /// Number of genes.
    #[must_use]
    pub fn n_vars(&self) -> usize {
        self.n_vars
    }

    /// The values as bytes for another process, as [`GeneMajor::from_partials`]
    /// takes them.
    ///
    /// # Errors
    /// When the spill file can't be read.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let n_entries = |piece: &Piece| piece.dictionary.as_ref().map_or(0, Dictionary::len);
        let of_piece = |piece| 24 + ENTRY * n_entries(piece) + piece.n_bytes;
        let total: usize = self.pieces.iter().map(of_piece).sum();
        let mut out = partial_header();
        out.reserve(total + 24);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&(self.n_vars as u64).to_le_bytes());
        out.extend_from_slice(&(self.n_groups as u64).to_le_bytes());
        for piece in &self.pieces {
            let numbers = [piece.block, n_entries(piece), piece.n_bytes];
            out.extend(numbers.iter().flat_map(|&number| (number as u64).to_le_bytes()));
            if let Some(dictionary) = &piece.dictionary {
                dictionary.append_to(&mut out);
            }
            match &piece.place {
                Place::Memory(bytes) => out.extend_from_slice(bytes),
                Place::Spill(at) => {
                    let start = out.len();
                    out.resize(start + piece.n_bytes, 0);
                    self.spill().read(&mut out[start..], *at)?;
                }
            }
        }
        Ok(out)
    }

    /// The values of all ranges, from the bytes of each.
    ///
    /// # Errors
    /// When the bytes are none of this pass, or can't be spilled.
    pub fn from_partials(
        partials: &[impl AsRef<[u8]>],
        ctx: &Ctx,
        n_vars: usize,
        n_groups: usize,
    ) -> Result<Self> {
        let collector = Collector::new(ctx, n_vars, n_groups);
        for partial in partials {
            let mut rest = Cut(partial_body(partial.as_ref())?);
            let header = (rest.take(8)?, rest.number()?, rest.number()?);
            if header != (&MAGIC[..], n_vars, n_groups) {
                return Err(bad("it comes from another pass"));
            }
            while !rest.0.is_empty() {
                let (block, n_entries, n_bytes) = (rest.number()?, rest.number()?, rest.number()?);
                let dictionary = match n_entries {
                    0 => None,
                    n => {
                        let bytes = rest.take(n.saturating_mul(ENTRY))?;
                        Some(Dictionary::from_bytes(bytes, n_groups)?)
                    }
                };
                let bytes = rest.take(n_bytes)?;
                let record = record_width(dictionary.as_ref(), n_groups);
                let layout = Layout::new(n_vars, record, n_bytes)?;
                PieceView::whole(bytes, layout, dictionary.as_ref()).check(n_vars, n_groups)?;
                collector.add(block, bytes.to_vec(), dictionary)?;
            }
        }
        Ok(collector.finish(n_vars))
    }

    /// Puts all values in one order, where they have dictionaries and memory allows it.
    ///
    /// # Errors
    /// On interruption.
    pub(super) fn put_in_order(&mut self, ctx: &Ctx) -> Result<Option<ValueOrder>> {
        let dictionaries = self.pieces.iter_mut().map(|piece| piece.dictionary.as_mut());
        match dictionaries.collect::<Option<Vec<_>>>() {
            Some(mut all) => ValueOrder::of(&mut all, self.n_groups, ctx, for_pieces(ctx) / 3),
            None => Ok(None),
        }
    }

    /// Slices of genes whose spilled values can be in memory at a time; at least
    /// one gene each.
    #[must_use]
    pub fn slices(&self, ctx: &Ctx) -> Vec<Range<usize>> {
        let most = for_pieces(ctx) / 3;
        let n_spilled = self.pieces.iter().filter(|p| matches!(p.place, Place::Spill(_))).count();
        let (mut slices, mut start, mut bytes) = (Vec::new(), 0, 0);
        for (gene, &of_values) in self.spilled.iter().enumerate() {
            let more = of_values + (OFFSET * n_spilled) as u64;
            if gene > start && bytes + more > most {
                slices.push(start..gene);
                (start, bytes) = (gene, 0);
            }
            bytes += more;
        }
        if start < self.n_vars {
            slices.push(start..self.n_vars);
        }
        slices
    }

    /// Brings a slice of genes into memory.
    ///
    /// # Errors
    /// When the spill file can't be read, or on interruption.
    pub fn load(&self, ctx: &Ctx, genes: &Range<usize>) -> Result<Slice<'_>> {
        let loaded: Vec<OnceLock<LoadedPiece>> =
            self.pieces.iter().map(|_| OnceLock::new()).collect();
        if self.spill.is_some() {
            ctx.parallel(
                "reading scratch file",
                loaded.len(),
                || (),
                |i, ()| {
                    let piece = &self.pieces[i];
                    if let Place::Spill(at) = piece.place {
                        let layout = piece.layout(self.n_vars, self.n_groups)?;
                        let read =
                            |bytes: &mut [u8], from| self.spill().read(bytes, at + from as u64);
                        // Every task has its own cell.
                        let _ = loaded[i].set(LoadedPiece::load(layout, genes.clone(), read)?);
                    }
                    Ok(())
                },
            )?;
        }
        Ok(Slice { owner: self, loaded })
    }

    fn spill(&self) -> &Spill {
        self.spill.as_ref().expect("spilled pieces have a file")
    }
}

/// Some genes, all in memory.
pub struct Slice<'g> {
    owner: &'g GeneMajor,
    loaded: Vec<OnceLock<LoadedPiece>>,
}

impl Slice<'_> {
    /// The pieces, in the order of the file.
    ///
    /// # Errors
    /// Never for what [`GeneMajor`] made.
    pub fn views(&self) -> Result<Vec<PieceView<'_>>> {
        self.owner
            .pieces
            .iter()
            .zip(&self.loaded)
            .filter_map(|(piece, loaded)| match (&piece.place, loaded.get()) {
                (Place::Memory(bytes), _) => {
                    let layout = piece.layout(self.owner.n_vars, self.owner.n_groups);
                    Some(layout.map(|l| PieceView::whole(bytes, l, piece.dictionary.as_ref())))
                }
                (Place::Spill(_), loaded) => {
                    loaded.map(|loaded| Ok(loaded.view(piece.dictionary.as_ref())))
                }
            })
            .collect()
    }
}

/// Bytes that are taken from the front.
struct Cut<'b>(&'b [u8]);

impl<'b> Cut<'b> {
    fn take(&mut self, n: usize) -> Result<&'b [u8]> {
        if n > self.0.len() {
            return Err(bad("it is cut short"));
        }
        let (front, rest) = self.0.split_at(n);
        self.0 = rest;
        Ok(front)
    }

    fn number(&mut self) -> Result<usize> {
        let mut word = [0; 8];
        word.copy_from_slice(self.take(8)?);
        usize::try_from(u64::from_le_bytes(word)).map_err(|_| bad("a number is too large"))
    }
}

fn bad(reason: &str) -> Error {
    Error::BadPartial { reason: reason.to_owned() }
}
