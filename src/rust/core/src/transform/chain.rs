//! The chain as a description, and the view that runs it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::dense::{Adjust, DenseOp, PearsonResiduals};
use super::downsample::{Downsample, DownsampleRows};
use super::log1p::{Log1p, RowLog, RowTable, normalize_log1p};
use super::normalize::Normalize;
use super::scale::ScaleGenes;
use super::subset::{GeneSelection, RowSelection};
use crate::error::{Error, Result};
use crate::matrix::RowBlock;
use crate::stats::log1p::exp_m1_all;

/// One operation of the chain, as it is stored and sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// New column `j` is the old column `genes[j]`; any order, repeats allowed.
    SelectGenes {
        /// Old columns, from zero.
        genes: Vec<u32>,
    },
    /// Some molecules of each row, drawn at random; on counts alone.
    Downsample(Downsample),
    /// `(x * target) / total` of the row.
    Normalize {
        /// The common total.
        target: f64,
        /// Columns left out of the totals.
        excluded: Vec<u32>,
    },
    /// `ln(1 + x)`, or the logarithm to a base.
    Log1p {
        /// `None` is the natural logarithm.
        base: Option<f64>,
    },
    /// Pearson residuals of counts; every gene has a value from here on.
    Residuals(PearsonResiduals),
    /// Values less what a linear model explains; every gene has a value from here on.
    Adjust(Adjust),
    /// Centre, scale, clip; leaves a background (see [`View::background`]) where the
    /// matrix is sparse.
    Scale(ScaleGenes),
}

/// The operations of a view, in order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Chain {
    /// The operations.
    pub ops: Vec<Op>,
    /// Set where the stored values are logarithms already: their base
    /// (`e` for natural ones).
    pub stored_log: Option<f64>,
}

#[derive(Debug, Clone)]
enum Step {
    SelectGenes(GeneSelection),
    Downsample(DownsampleRows),
    Normalize(Normalize),
    Log1p(Log1p),
    NormalizeLog1p(Normalize, Log1p),
    Scale(ScaleGenes, Vec<f64>),
}

/// Selected rows of a source and a chain over them, ready to run.
#[derive(Debug, Clone)]
pub struct View {
    rows: Option<RowSelection>,
    steps: Vec<Step>,
    /// What follows once rows have all their genes.
    dense: Vec<Arc<DenseOp>>,
    scales: bool,
    unlog: Unlog,
    n_obs: usize,
    n_vars: usize,
    keeps_linear: bool,
    sorts_rows: bool,
    background: Option<Vec<f64>>,
}

/// Where the values before the logarithm come from.
#[derive(Debug, Clone, Copy)]
enum Unlog {
    /// The chain takes a logarithm: what went into it.
    Chain,
    /// The file holds logarithms: their inverse.
    Stored(Log1p),
    /// No logarithm anywhere: the values themselves.
    Plain,
}

impl Unlog {
    /// Where the file holds logarithms to this base, or none.
    fn of_file(base: Option<f64>) -> Self {
        base.map_or(Unlog::Plain, |base| {
            let is_e = base.to_bits() == std::f64::consts::E.to_bits();
            Unlog::Stored(Log1p::new((!is_e).then_some(base)))
        })
    }
}

/// Adds a logarithm, together with the normalisation before it where there is one.
fn push_log(steps: &mut Vec<Step>, base: Option<f64>) -> Result<()> {
    if let Some(base) = base.filter(|base| !(*base > 0.0 && base.ln().abs() > 0.0)) {
        return Err(Error::InvalidInput {
            argument: "base",
            message: format!("{base} is no base of a logarithm"),
        });
    }
    let log = Log1p::new(base);
    let step = match steps.pop() {
        Some(Step::Normalize(normalize)) => Step::NormalizeLog1p(normalize, log),
        before => {
            steps.extend(before);
            Step::Log1p(log)
        }
    };
    steps.push(step);
    Ok(())
}

/// A worker's spare memory for running views.
#[derive(Default)]
pub struct ViewScratch {
    selected: RowBlock,
    spare: RowBlock,
    dense: RowBlock,
    explained: Vec<f64>,
    totals: Vec<f64>,
    table: RowTable,
    counts: Vec<u64>,
}

/// Values of a written-out piece at most, 12 MB of them: as many as a block has.
const PIECE_VALUES: usize = 1 << 20;

impl View {
    /// A view of a matrix of `n_obs` by `n_vars`. `rows[i]` is the matrix's row
    /// at position `i` of the view; `None` takes all in order.
    ///
    /// # Errors
    /// When a selection or an operation does not fit the shape.
    pub fn new(n_obs: usize, n_vars: usize, rows: Option<&[usize]>, chain: &Chain) -> Result<Self> {
        let chosen = rows;
        let rows = rows.map(|rows| RowSelection::new(rows, n_obs)).transpose()?;
        let mut width = n_vars;
        let mut steps: Vec<Step> = Vec::with_capacity(chain.ops.len());
        let n_rows = rows.as_ref().map_or(n_obs, RowSelection::len);
        let mut dense: Vec<Arc<DenseOp>> = Vec::new();
        let (mut background, mut scales) = (None, false);
        let mut add_dense = |op: DenseOp, width| {
            op.check(n_rows, width)?;
            dense.push(Arc::new(op));
            Ok::<bool, Error>(true)
        };
        let mut is_dense = false;
        let mut unlog = Unlog::of_file(chain.stored_log);
        for op in &chain.ops {
            if scales {
                return Err(Error::InvalidInput {
                    argument: "chain",
                    message: "nothing but a selection of cells can follow scaling".into(),
                });
            }
            let stays_dense = matches!(op, Op::Residuals(_) | Op::Adjust(_) | Op::Scale(_));
            if is_dense && !stays_dense {
                return Err(Error::InvalidInput {
                    argument: "chain",
                    message: "residuals can be adjusted and scaled, no more".into(),
                });
            }
            match op {
                Op::SelectGenes { genes } => {
                    steps.push(Step::SelectGenes(GeneSelection::new(genes, width)?));
                    width = genes.len();
                }
                Op::Downsample(draw) => {
                    let counts = |step: &Step| matches!(step, Step::SelectGenes(_));
                    if chain.stored_log.is_some() || !steps.iter().all(counts) {
                        return Err(Error::InvalidInput {
                            argument: "chain",
                            message: "only counts can be downsampled".into(),
                        });
                    }
                    let step = DownsampleRows::new(draw, chosen, n_obs)?;
                    steps.push(Step::Downsample(step));
                }
                Op::Normalize { target, excluded } => {
                    let excluded = mask_of(excluded, width)?;
                    steps.push(Step::Normalize(Normalize { target: *target, excluded }));
                }
                Op::Log1p { base } => {
                    push_log(&mut steps, *base)?;
                    unlog = Unlog::Chain;
                }
                Op::Residuals(residuals) => {
                    is_dense = add_dense(DenseOp::Residuals(residuals.clone()), width)?;
                    unlog = Unlog::Plain;
                }
                Op::Adjust(adjust) => {
                    is_dense = add_dense(DenseOp::Adjust(adjust.clone()), width)?;
                    unlog = match logarithm_of(unlog, &steps) {
                        Some(log) if adjust.keeps_scale() => Unlog::Stored(log),
                        _ => Unlog::Plain,
                    };
                }
                Op::Scale(scale) if is_dense => {
                    add_dense(DenseOp::Scale(scale.clone()), width)?;
                    scales = true;
                }
                Op::Scale(scale) => {
                    check_scale(scale, width)?;
                    let zeros = scale.background();
                    steps.push(Step::Scale(scale.clone(), zeros.clone()));
                    background = Some(zeros);
                    scales = true;
                }
            }
        }
        Ok(View {
            rows,
            steps,
            dense,
            scales,
            unlog,
            n_obs: n_rows,
            n_vars: width,
            keeps_linear: false,
            sorts_rows: false,
            background,
        })
    }

    /// The same view, standardised at the end of its chain.
    ///
    /// # Errors
    /// When it is standardised already or the numbers of genes differ.
    pub fn then_scale(mut self, scale: ScaleGenes) -> Result<Self> {
        if self.scales {
            let message = "the chain scales already".to_owned();
            return Err(Error::InvalidInput { argument: "chain", message });
        }
        check_scale(&scale, self.n_vars)?;
        self.scales = true;
        if self.is_dense() {
            self.dense.push(Arc::new(DenseOp::Scale(scale)));
        } else {
            let zeros = scale.background();
            self.background = Some(zeros.clone());
            self.steps.push(Step::Scale(scale, zeros));
        }
        Ok(self)
    }

    /// The same view, whose background counts as zero: only the sparse part of
    /// standardised values.
    #[must_use]
    pub fn without_background(&self) -> Self {
        View { background: None, ..self.clone() }
    }

    /// The same view, whose blocks carry the values before the logarithm too.
    #[must_use]
    pub fn with_linear(mut self) -> Self {
        self.keeps_linear = true;
        self
    }

    /// The same view without normalisation and logarithm, where these are its last
    /// step, and what is missing: for a pass that applies it itself and wants the
    /// values before the logarithm too.
    pub(crate) fn leaving_log(&self) -> Option<(View, RowLog)> {
        if self.is_dense() {
            return None;
        }
        let mut view = self.clone();
        match view.steps.pop() {
            Some(Step::NormalizeLog1p(normalize, log)) => {
                view.keeps_linear = false;
                Some((view, RowLog { normalize, log }))
            }
            _ => None,
        }
    }

    /// The same view, whose blocks have sorted columns in each row.
    #[must_use]
    pub fn with_sorted_rows(mut self) -> Self {
        self.sorts_rows = true;
        self
    }

    /// Number of rows of the view.
    #[must_use]
    pub fn n_obs(&self) -> usize {
        self.n_obs
    }

    /// Number of columns of the view.
    #[must_use]
    pub fn n_vars(&self) -> usize {
        self.n_vars
    }

    /// Whether rows have all their genes, in order.
    #[must_use]
    pub fn is_dense(&self) -> bool {
        !self.dense.is_empty()
    }

    /// Whether the chain standardises.
    #[must_use]
    pub fn scales(&self) -> bool {
        self.scales
    }

    /// What has to be added to each column of every row, where the chain scales a sparse
    /// matrix.
    #[must_use]
    pub fn background(&self) -> Option<&[f64]> {
        self.background.as_deref()
    }

    /// The logarithm that the values of the view are.
    fn logarithm(&self) -> Option<Log1p> {
        logarithm_of(self.unlog, &self.steps)
    }

    /// Turns values of the view into what they were before the logarithm, to
    /// about one unit in the last place; the view must not scale. Residuals come from
    /// no logarithm and stay as they are.
    pub fn undo_log(&self, values: &mut [f64]) {
        if let Some(log) = self.logarithm() {
            exp_m1_all(values, log.ln_base);
        }
    }

    /// The view up to where rows get all their genes: what a copy in memory holds.
    #[must_use]
    pub fn sparse_part(&self) -> Self {
        if self.is_dense() {
            View { dense: Vec::new(), scales: false, keeps_linear: false, ..self.clone() }
        } else {
            self.clone()
        }
    }

    /// The view of a matrix that has the values of the [sparse part](Self::sparse_part)
    /// of this view, such as a packed copy: all of its rows and columns, and what is left
    /// of the chain.
    #[must_use]
    pub fn of_copy(&self) -> Self {
        View {
            rows: None,
            steps: Vec::new(),
            unlog: self.logarithm().map_or(Unlog::Plain, Unlog::Stored),
            ..self.clone()
        }
    }

    /// Whether the view has some row or gene more than once.
    #[must_use]
    pub fn repeats(&self) -> bool {
        let again = |step: &Step| matches!(step, Step::SelectGenes(GeneSelection::Repeated { .. }));
        self.rows.as_ref().is_some_and(RowSelection::repeats) || self.steps.iter().any(again)
    }

    /// Whether the view has a row among these of the matrix.
    #[must_use]
    pub fn touches(&self, rows: &std::ops::Range<usize>) -> bool {
        match &self.rows {
            None => !rows.is_empty(),
            Some(selection) => selection.touches(rows),
        }
    }

    /// Rows that these of the matrix are in the view, repeats counted.
    #[must_use]
    pub fn n_rows(&self, rows: &std::ops::Range<usize>) -> usize {
        self.rows.as_ref().map_or(rows.len(), |selection| selection.count(rows))
    }

    /// Most entries that a decoded block of the matrix has in the view, before
    /// genes are selected.
    #[must_use]
    pub fn entries(&self, block: &RowBlock) -> u64 {
        self.rows.as_ref().map_or(block.nnz() as u64, |rows| rows.entries(block))
    }

    /// Blocks that [`apply`](Self::apply) makes of these rows of the matrix, given as one
    /// block, without a bound on their entries.
    #[must_use]
    pub fn n_pieces(&self, rows: &std::ops::Range<usize>) -> usize {
        if !self.is_dense() {
            return 1;
        }
        self.n_rows(rows).div_ceil(self.piece_rows(usize::MAX))
    }

    fn piece_rows(&self, most_values: usize) -> usize {
        (most_values.min(PIECE_VALUES) / self.n_vars.max(1)).max(1)
    }

    /// Turns a decoded block of the matrix into blocks of the view and hands them
    /// to `emit`: one, or where rows are repeated some of about `most_values`
    /// entries, so that a row selected a million times needs no more memory. Rows
    /// with all their genes come in pieces of 2^20 values at most.
    ///
    /// # Errors
    /// What `emit` reports, and values that are no counts where the chain draws from
    /// counts.
    pub fn apply(
        &self,
        block: &mut RowBlock,
        scratch: &mut ViewScratch,
        most_values: usize,
        mut emit: impl FnMut(&mut RowBlock) -> Result<()>,
    ) -> Result<()> {
        let Some(rows) = self.rows.as_ref().filter(|rows| !rows.relabel(block)) else {
            self.transform(block, scratch)?;
            return self.write_out(block, scratch, most_values, &mut emit);
        };
        let mut selected = std::mem::take(&mut scratch.selected);
        let mut from = Some(0);
        while let Some(at) = from {
            from = rows.copy(block, at, most_values, &mut selected);
            self.transform(&mut selected, scratch)?;
            self.write_out(&mut selected, scratch, most_values, &mut emit)?;
        }
        scratch.selected = selected;
        Ok(())
    }

    fn transform(&self, block: &mut RowBlock, scratch: &mut ViewScratch) -> Result<()> {
        block.linear.clear();
        let mut steps = self.steps.iter().peekable();
        while let Some(step) = steps.next() {
            match step {
                Step::SelectGenes(genes) => genes.apply(block, &mut scratch.spare),
                Step::Downsample(draw) => draw.apply(block, &mut scratch.counts)?,
                Step::Normalize(normalize) => normalize.apply(block),
                Step::Log1p(log) => log.apply(block, self.keeps_linear),
                Step::NormalizeLog1p(normalize, log) => {
                    let (linear, table) = (self.keeps_linear, &mut scratch.table);
                    let Some(Step::SelectGenes(genes)) = steps.peek() else {
                        let total =
                            |_, genes: &[u32], values: &[f64]| normalize.total(genes, values);
                        normalize_log1p(normalize, *log, block, linear, table, total);
                        continue;
                    };
                    // Genes that are left out count in the totals, but need no logarithm.
                    steps.next();
                    let totals = &mut scratch.totals;
                    totals.clear();
                    totals.extend((0..block.n_rows()).map(|r| {
                        let (genes, values) = block.row(r);
                        normalize.total(genes, values)
                    }));
                    genes.apply(block, &mut scratch.spare);
                    normalize_log1p(normalize, *log, block, linear, table, |r, _, _| totals[r]);
                }
                Step::Scale(scale, background) => {
                    self.unlog(block);
                    scale.apply(background, block);
                }
            }
        }
        if self.background.is_none() && !self.is_dense() {
            self.unlog(block);
        }
        if self.sorts_rows && !self.is_dense() {
            block.sort_rows();
        }
        Ok(())
    }

    /// Hands on a block of the sparse part, or where the chain goes on from there its
    /// rows with all their genes.
    fn write_out(
        &self,
        block: &mut RowBlock,
        scratch: &mut ViewScratch,
        most_values: usize,
        emit: &mut impl FnMut(&mut RowBlock) -> Result<()>,
    ) -> Result<()> {
        if !self.is_dense() {
            return emit(block);
        }
        let genes = 0..self.n_vars as u32;
        let mut piece = std::mem::take(&mut scratch.dense);
        let n_rows = block.n_rows();
        let each = self.piece_rows(most_values);
        for first in (0..n_rows).step_by(each) {
            piece.clear();
            piece.indptr.push(0);
            for r in first..(first + each).min(n_rows) {
                let start = piece.values.len();
                piece.values.resize(start + self.n_vars, 0.0);
                piece.indices.extend(genes.clone());
                let values = &mut piece.values[start..];
                let (columns, entries) = block.row(r);
                for (&column, &entry) in columns.iter().zip(entries) {
                    values[column as usize] += entry;
                }
                self.run_dense(block.rows[r], values, &mut piece.linear, &mut scratch.explained);
                piece.indptr.push(piece.values.len());
                piece.rows.push(block.rows[r]);
            }
            emit(&mut piece)?;
        }
        scratch.dense = piece;
        Ok(())
    }

    /// All operations on one row; its linear values come before scaling.
    fn run_dense(
        &self,
        row: usize,
        values: &mut [f64],
        linear: &mut Vec<f64>,
        spare: &mut Vec<f64>,
    ) {
        let (last, before) = match self.dense.split_last() {
            Some((last, before)) if self.scales => (Some(last), before),
            _ => (None, &self.dense[..]),
        };
        for op in before {
            op.apply(row, values, spare);
        }
        if self.keeps_linear {
            match self.unlog {
                Unlog::Stored(log) => linear.extend(values.iter().map(|&y| log.inverse(y))),
                Unlog::Chain | Unlog::Plain => linear.extend_from_slice(values),
            }
        }
        if let Some(op) = last {
            op.apply(row, values, spare);
        }
    }

    /// Fills in the linear values where the chain took no logarithm. Scaling, the
    /// last step, comes after it.
    fn unlog(&self, block: &mut RowBlock) {
        if !self.keeps_linear {
            return;
        }
        match self.unlog {
            Unlog::Chain => {}
            Unlog::Stored(log) => {
                block.linear.clear();
                block.linear.extend(block.values.iter().map(|&y| log.inverse(y)));
            }
            Unlog::Plain => {
                block.linear.clear();
                block.linear.extend_from_slice(&block.values);
            }
        }
    }
}

fn check_scale(scale: &ScaleGenes, width: usize) -> Result<()> {
    if scale.mean.len() == width && scale.sd.len() == width {
        return Ok(());
    }
    let message = format!("scaling knows {} genes where there are {width}", scale.mean.len());
    Err(Error::InvalidInput { argument: "chain", message })
}

/// Which of `width` genes are excluded; none at all need no mask.
fn mask_of(excluded: &[u32], width: usize) -> Result<Option<Vec<bool>>> {
    let mut mask = vec![false; width];
    for &gene in excluded {
        let Some(slot) = mask.get_mut(gene as usize) else {
            let message = format!("gene {gene} is excluded, but there are {width} from 0 on");
            return Err(Error::InvalidInput { argument: "excluded", message });
        };
        *slot = true;
    }
    Ok((!excluded.is_empty()).then_some(mask))
}

/// The logarithm that values are after these steps.
fn logarithm_of(unlog: Unlog, steps: &[Step]) -> Option<Log1p> {
    match unlog {
        Unlog::Plain => None,
        Unlog::Stored(log) => Some(log),
        Unlog::Chain => steps.iter().rev().find_map(|step| match step {
            Step::Log1p(log) | Step::NormalizeLog1p(_, log) => Some(*log),
            _ => None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::ScaleGenes;

    #[test]
    fn rows_are_sorted_whatever_the_chain_does() {
        let scale =
            ScaleGenes { mean: vec![0.5; 4], sd: vec![2.0; 4], zero_center: true, max_value: None };
        let log = Op::Log1p { base: None };
        for ops in [vec![], vec![log.clone()], vec![log, Op::Scale(scale)]] {
            for linear in [false, true] {
                let chain = Chain { ops: ops.clone(), stored_log: None };
                let mut view = View::new(2, 4, None, &chain).unwrap().with_sorted_rows();
                if linear {
                    view = view.with_linear();
                }
                let mut block = RowBlock {
                    indptr: vec![0, 3, 5],
                    indices: vec![3, 0, 2, 1, 0],
                    values: vec![4.0, 1.0, 3.0, 6.0, 5.0],
                    linear: Vec::new(),
                    rows: vec![0, 1],
                };
                let apply = view.apply(&mut block, &mut ViewScratch::default(), 100, |block| {
                    assert_eq!(block.indices, [0, 2, 3, 0, 1]);
                    assert!(block.values[..3].is_sorted() && block.values[3..].is_sorted());
                    if linear {
                        assert_eq!(block.linear.len(), 5);
                        assert!(block.linear[..3].is_sorted());
                    }
                    Ok(())
                });
                apply.unwrap();
            }
        }
    }
}
