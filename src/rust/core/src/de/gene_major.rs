//! The values of a view gene by gene, in bounded memory, from one read of the
//! row-major matrix.
//!
//! Every block is turned around where it is decoded (see [`turn`](super::turn)).
//! Pieces stay in memory while they fit; the others go to a spill file in the
//! scratch directory and come back by slices of genes. What a gene's values are
//! and their order do not depend on where its pieces lie.
//!
//! Memory: 9 bytes a nonzero value (10 or 12 with more than 256 or 65,536 groups)
//! up to two thirds of the budget less 96 MB a thread, a third for what is read
//! back; at least the values of one gene. Disk: the same bytes past that.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::groups::Groups;
use super::piece::{Layout, LoadedPiece, PieceView, count_genes, gene_bytes};
use super::spill::Spill;
use super::turn::Turner;
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
    n_bytes: usize,
    place: Place,
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
    spill: OnceLock<Spill>,
    pieces: Mutex<(Vec<Piece>, Vec<u64>)>,
}

impl<'a> Collector<'a> {
    fn new(ctx: &'a Ctx<'_>, n_vars: usize) -> Self {
        Collector {
            scratch: ctx.scratch(),
            resident_most: for_pieces(ctx) / 3 * 2,
            resident: AtomicU64::new(0),
            spill: OnceLock::new(),
            pieces: Mutex::new((Vec::new(), vec![0; n_vars])),
        }
    }

    /// Keeps a piece, wherever there is room.
    fn add(&self, block: usize, bytes: Vec<u8>) -> Result<()> {
        let n_bytes = bytes.len();
        let held = self.resident.fetch_add(n_bytes as u64, Ordering::Relaxed) + n_bytes as u64;
        let place = if held <= self.resident_most {
            Place::Memory(bytes)
        } else {
            self.resident.fetch_sub(n_bytes as u64, Ordering::Relaxed);
            let at = self.spill()?.append(&bytes)?;
            let mut pieces = self.lock();
            count_genes(&bytes, &mut pieces.1);
            Place::Spill(at)
        };
        self.lock().0.push(Piece { block, n_bytes, place });
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

    fn finish(self, n_vars: usize, n_groups: usize) -> GeneMajor {
        let (mut pieces, spilled) =
            self.pieces.into_inner().unwrap_or_else(PoisonError::into_inner);
        pieces.sort_by_key(|piece| piece.block);
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
    /// Values of each gene in the spill file.
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
        let n_vars = view.n_vars();
        let collector = Collector::new(ctx, n_vars);
        let turners: Mutex<Vec<Turner>> = Mutex::default();
        stream_runs(source, &view, ctx, "reading values", &runs, SLAB_VALUES, |number, run| {
            let spare = turners.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut turner = spare.unwrap_or_default();
            let block = runs[number][0];
            let keep = |turner: &mut Turner| match turner.turn(log.as_ref(), groups, n_vars)? {
                Some(bytes) => collector.add(block, bytes),
                None => Ok(()),
            };
            run.for_each(|_, slab| {
                turner.hold(slab, groups);
                if turner.is_full() { keep(&mut turner) } else { Ok(()) }
            })?;
            keep(&mut turner)?;
            turners.lock().unwrap_or_else(PoisonError::into_inner).push(turner);
            Ok(())
        })?;
        Ok(collector.finish(n_vars, groups.n_groups()))
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
        let total: usize = self.pieces.iter().map(|piece| piece.n_bytes + 16).sum();
        let mut out = partial_header();
        out.reserve(total + 24);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&(self.n_vars as u64).to_le_bytes());
        out.extend_from_slice(&(self.n_groups as u64).to_le_bytes());
        for piece in &self.pieces {
            out.extend_from_slice(&(piece.block as u64).to_le_bytes());
            out.extend_from_slice(&(piece.n_bytes as u64).to_le_bytes());
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
        let collector = Collector::new(ctx, n_vars);
        for partial in partials {
            let mut rest = Cut(partial_body(partial.as_ref())?);
            let header = (rest.take(8)?, rest.number()?, rest.number()?);
            if header != (&MAGIC[..], n_vars, n_groups) {
                return Err(bad("it comes from another pass"));
            }
            while !rest.0.is_empty() {
                let (block, n_bytes) = (rest.number()?, rest.number()?);
                let bytes = rest.take(n_bytes)?;
                let layout = Layout::new(n_vars, n_groups, n_bytes)?;
                PieceView::whole(bytes, layout).check(n_vars, n_groups)?;
                collector.add(block, bytes.to_vec())?;
            }
        }
        Ok(collector.finish(n_vars, n_groups))
    }

    /// Slices of genes whose spilled values can be in memory at a time; at least
    /// one gene each.
    #[must_use]
    pub fn slices(&self, ctx: &Ctx) -> Vec<Range<usize>> {
        let most = for_pieces(ctx) / 3;
        let n_spilled = self.pieces.iter().filter(|p| matches!(p.place, Place::Spill(_))).count();
        let (mut slices, mut start, mut bytes) = (Vec::new(), 0, 0);
        for (gene, &n_values) in self.spilled.iter().enumerate() {
            let more = gene_bytes(n_values, self.n_groups, n_spilled);
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
                        let layout = Layout::new(self.n_vars, self.n_groups, piece.n_bytes)?;
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
                (Place::Memory(bytes), _) => Some(
                    Layout::new(self.owner.n_vars, self.owner.n_groups, bytes.len())
                        .map(|layout| PieceView::whole(bytes, layout)),
                ),
                (Place::Spill(_), loaded) => loaded.map(|piece| Ok(piece.view())),
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
