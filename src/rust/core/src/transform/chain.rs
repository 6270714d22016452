//! The chain as a description, and the view that runs it.

use serde::{Deserialize, Serialize};

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
    /// Centre, scale, clip; leaves a background (see [`View::background`]).
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

/// A worker's spare memory for running views.
#[derive(Default)]
pub struct ViewScratch {
    selected: RowBlock,
    spare: RowBlock,
    table: RowTable,
}

impl View {
    /// A view of a matrix of `n_obs` by `n_vars`. `rows[i]` is the matrix's row
    /// at position `i` of the view; `None` takes all in order.
    ///
    /// # Errors
    /// When a selection or an operation does not fit the shape.
    pub fn new(n_obs: usize, n_vars: usize, rows: Option<&[usize]>, chain: &Chain) -> Result<Self> {
        let rows = rows.map(|rows| RowSelection::new(rows, n_obs)).transpose()?;
        let mut width = n_vars;
        let mut steps: Vec<Step> = Vec::with_capacity(chain.ops.len());
        let mut background = None;
        let mut unlog = match chain.stored_log {
            Some(base) => {
                let is_e = base.to_bits() == std::f64::consts::E.to_bits();
                Unlog::Stored(Log1p::new((!is_e).then_some(base)))
            }
            None => Unlog::Plain,
        };
        for op in &chain.ops {
            if background.is_some() {
                return Err(Error::InvalidInput {
                    argument: "chain",
                    message: "nothing but a selection of cells can follow scaling".into(),
                });
            }
            match op {
                Op::SelectGenes { genes } => {
                    steps.push(Step::SelectGenes(GeneSelection::new(genes, width)?));
                    width = genes.len();
                }
                Op::Normalize { target, excluded } => {
                    let mut mask = vec![false; width];
                    for &gene in excluded {
                        let Some(slot) = mask.get_mut(gene as usize) else {
                            let message =
                                format!("gene {gene} is excluded, but there are {width} from 0 on");
                            return Err(Error::InvalidInput { argument: "excluded", message });
                        };
                        *slot = true;
                    }
                    let excluded = (!excluded.is_empty()).then_some(mask);
                    steps.push(Step::Normalize(Normalize { target: *target, excluded }));
                }
                Op::Log1p { base } => {
                    if let Some(base) = base.filter(|base| !(*base > 0.0 && base.ln().abs() > 0.0))
                    {
                        return Err(Error::InvalidInput {
                            argument: "base",
                            message: format!("{base} is no base of a logarithm"),
                        });
                    }
                    let log = Log1p::new(*base);
                    unlog = Unlog::Chain;
                    match steps.pop() {
                        Some(Step::Normalize(normalize)) => {
                            steps.push(Step::NormalizeLog1p(normalize, log));
                        }
                        before => {
                            steps.extend(before);
                            steps.push(Step::Log1p(log));
                        }
                    }
                }
                Op::Scale(scale) => {
                    if scale.mean.len() != width || scale.sd.len() != width {
                        return Err(Error::InvalidInput {
                            argument: "chain",
                            message: format!(
                                "scaling knows {} genes where there are {width}",
                                scale.mean.len()
                            ),
                        });
                    }
                    let zeros = scale.background();
                    steps.push(Step::Scale(scale.clone(), zeros.clone()));
                    background = Some(zeros);
                }
            }
        }
        let n_obs = rows.as_ref().map_or(n_obs, RowSelection::len);
        Ok(View {
            rows,
            steps,
            unlog,
            n_obs,
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
        let message = if self.background.is_some() {
            "the chain scales already".to_owned()
        } else if scale.mean.len() != self.n_vars || scale.sd.len() != self.n_vars {
            format!("scaling knows {} genes where there are {}", scale.mean.len(), self.n_vars)
        } else {
            let zeros = scale.background();
            self.background = Some(zeros.clone());
            self.steps.push(Step::Scale(scale, zeros));
            return Ok(self);
        };
        Err(Error::InvalidInput { argument: "chain", message })
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

    /// What has to be added to each column of every row, where the chain scales.
    #[must_use]
    pub fn background(&self) -> Option<&[f64]> {
        self.background.as_deref()
    }

    /// The logarithm that the values of the view are.
    fn logarithm(&self) -> Option<Log1p> {
        match self.unlog {
            Unlog::Plain => None,
            Unlog::Stored(log) => Some(log),
            Unlog::Chain => self.steps.iter().rev().find_map(|step| match step {
                Step::Log1p(log) | Step::NormalizeLog1p(_, log) => Some(*log),
                _ => None,
            }),
        }
    }

    /// Turns values of the view into what they were before the logarithm, to
    /// about one unit in the last place; the view must not scale.
    pub fn undo_log(&self, values: &mut [f64]) {
        if let Some(log) = self.logarithm() {
            exp_m1_all(values, log.ln_base);
        }
    }

    /// The view of a matrix that has the values of this view, such as a packed
    /// copy: all of its rows and columns as they are.
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

    /// Most entries that a decoded block of the matrix has in the view, before
    /// genes are selected.
    #[must_use]
    pub fn entries(&self, block: &RowBlock) -> u64 {
        self.rows.as_ref().map_or(block.nnz() as u64, |rows| rows.entries(block))
    }

    /// Turns a decoded block of the matrix into blocks of the view and hands them
    /// to `emit`: one, or where rows are repeated some of about `most_values`
    /// entries, so that a row selected a million times needs no more memory.
    ///
    /// # Errors
    /// What `emit` reports.
    pub fn apply(
        &self,
        block: &mut RowBlock,
        scratch: &mut ViewScratch,
        most_values: usize,
        mut emit: impl FnMut(&mut RowBlock) -> Result<()>,
    ) -> Result<()> {
        let Some(rows) = self.rows.as_ref().filter(|rows| !rows.relabel(block)) else {
            self.transform(block, scratch);
            return emit(block);
        };
        let mut selected = std::mem::take(&mut scratch.selected);
        let mut from = Some(0);
        while let Some(at) = from {
            from = rows.copy(block, at, most_values, &mut selected);
            self.transform(&mut selected, scratch);
            emit(&mut selected)?;
        }
        scratch.selected = selected;
        Ok(())
    }

    fn transform(&self, block: &mut RowBlock, scratch: &mut ViewScratch) {
        block.linear.clear();
        for step in &self.steps {
            match step {
                Step::SelectGenes(genes) => genes.apply(block, &mut scratch.spare),
                Step::Normalize(normalize) => normalize.apply(block),
                Step::Log1p(log) => log.apply(block, self.keeps_linear),
                Step::NormalizeLog1p(normalize, log) => {
                    let linear = self.keeps_linear;
                    normalize_log1p(normalize, *log, block, linear, &mut scratch.table);
                }
                Step::Scale(scale, background) => {
                    self.unlog(block);
                    scale.apply(background, block);
                }
            }
        }
        if self.background.is_none() {
            self.unlog(block);
        }
        if self.sorts_rows {
            block.sort_rows();
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
