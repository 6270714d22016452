//! Drawing some molecules of each row.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::matrix::RowBlock;
use crate::stats::draws::draw_from;
use crate::stats::random::Rng;

/// Largest count and total; whole numbers in float64 are exact so far.
const MOST: f64 = 9_007_199_254_740_992.0;

/// How many molecules of each row are drawn.
///
/// # Numerics
/// The draw of a row depends on `seed`, the row of the matrix and its counts by
/// column, not on the order in which they are stored nor on where the row stands in
/// the view.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Downsample {
    /// Rows of the matrix that `counts` belong to, each once; `None` for all of
    /// them in order.
    pub rows: Option<Vec<usize>>,
    /// Molecules to draw from each of the rows, or one number for all.
    pub counts: Vec<u64>,
    /// Whether a molecule may be drawn again.
    pub replace: bool,
    /// Whether a row that has not more stays as it is. Without replacement it
    /// does in any case.
    pub keep_fewer: bool,
    /// Seed of the draws.
    pub seed: u64,
}

/// [`Downsample`] for the rows of a view.
#[derive(Debug, Clone)]
pub(crate) struct DownsampleRows {
    replace: bool,
    keep_fewer: bool,
    seed: u64,
    /// Of each row of the view, the row of the matrix and the molecules to draw.
    of_row: Arc<[(usize, u64)]>,
}

impl DownsampleRows {
    /// `rows[i]` is the row of a matrix with `n_obs` at position `i` of the view.
    pub(crate) fn new(draw: &Downsample, rows: Option<&[usize]>, n_obs: usize) -> Result<Self> {
        let wrong = |message: String| Error::InvalidInput { argument: "counts", message };
        let given = draw.rows.as_ref().map_or(n_obs, Vec::len);
        let one = draw.rows.is_none() && draw.counts.len() == 1;
        if !one && draw.counts.len() != given {
            return Err(wrong(format!(
                "there are {} numbers of molecules for {given} rows",
                draw.counts.len()
            )));
        }
        let order = draw.rows.as_ref().map(|rows| {
            let mut order: Vec<(usize, u64)> =
                rows.iter().copied().zip(draw.counts.iter().copied()).collect();
            order.sort_unstable();
            order
        });
        let wanted = |row: usize| match &order {
            _ if one => Ok(draw.counts[0]),
            None => Ok(draw.counts[row]),
            Some(order) => order
                .binary_search_by_key(&row, |(row, _)| *row)
                .map(|at| order[at].1)
                .map_err(|_| wrong(format!("there is none for row {}", row + 1))),
        };
        let pair = |row| wanted(row).map(|wanted| (row, wanted));
        let of_row = match rows {
            None => (0..n_obs).map(pair).collect::<Result<_>>()?,
            Some(rows) => rows.iter().map(|&row| pair(row)).collect::<Result<_>>()?,
        };
        Ok(DownsampleRows {
            replace: draw.replace,
            keep_fewer: draw.keep_fewer,
            seed: draw.seed,
            of_row,
        })
    }

    /// Draws from each row; what is left nothing of is dropped.
    pub(crate) fn apply(&self, block: &mut RowBlock, counts: &mut Vec<u64>) -> Result<()> {
        block.sort_rows();
        let (mut kept, mut start) = (0, 0);
        for r in 0..block.n_rows() {
            let end = block.indptr[r + 1];
            let (row, wanted) = self.of_row[block.rows[r]];
            let total = count(&block.values[start..end], counts)?;
            if total > wanted || self.replace && !self.keep_fewer && total > 0 {
                let mut rng = Rng::new(self.seed, row as u64);
                draw_from(&mut rng, counts, total, wanted, self.replace);
            }
            for (at, &drawn) in (start..end).zip(counts.iter()) {
                block.indices[kept] = block.indices[at];
                block.values[kept] = drawn as f64;
                kept += usize::from(drawn > 0);
            }
            start = end;
            block.indptr[r + 1] = kept;
        }
        block.indices.truncate(kept);
        block.values.truncate(kept);
        Ok(())
    }
}

/// The values of a row as counts, and their total.
fn count(values: &[f64], counts: &mut Vec<u64>) -> Result<u64> {
    counts.clear();
    let mut total = 0.0;
    for &x in values {
        if !(x >= 0.0 && x.fract() == 0.0 && total + x <= MOST) {
            return Err(Error::InvalidInput {
                argument: "chain",
                message: format!("only counts can be downsampled, and {x} is none"),
            });
        }
        total += x;
        counts.push(x as u64);
    }
    Ok(total as u64)
}

/// How many of `n` molecules of the whole matrix come from each row.
///
/// `rows[i]` is the row of the matrix that has `totals[i]`; the draw depends on
/// the rows, not on their order.
///
/// # Errors
/// When totals are no counts, or without replacement less than `n`.
pub fn split_total(
    rows: &[usize],
    totals: &[f64],
    n: u64,
    replace: bool,
    seed: u64,
) -> Result<Vec<u64>> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&i| rows[i]);
    let sorted: Vec<f64> = order.iter().map(|&i| totals[i]).collect();
    let mut counts = Vec::with_capacity(sorted.len());
    let total = count(&sorted, &mut counts)?;
    if n > total && (!replace || total == 0) {
        return Err(Error::InvalidInput {
            argument: "total_counts",
            message: format!("{n} molecules are wanted, but there are {total}"),
        });
    }
    // No row has this number.
    let mut rng = Rng::new(seed, u64::MAX);
    draw_from(&mut rng, &mut counts, total, n, replace);
    let mut shares = vec![0; rows.len()];
    for (&i, share) in order.iter().zip(counts) {
        shares[i] = share;
    }
    Ok(shares)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::{Ctx, Silent};
    use crate::matrix::Source;
    use crate::matrix::testing::Matrix;
    use crate::transform::{Chain, Op, View};

    fn draw(counts: Vec<u64>) -> Downsample {
        Downsample { rows: None, counts, replace: false, keep_fewer: true, seed: 4 }
    }

    /// A view of the matrix as dense rows.
    fn run(matrix: &Matrix, rows: Option<&[usize]>, ops: Vec<Op>) -> Result<Vec<Vec<f64>>> {
        let chain = Chain { ops, stored_log: None };
        let view = View::new(matrix.n_obs(), matrix.n_vars(), rows, &chain)?;
        let ctx = Ctx::new(2, 1 << 30, std::path::PathBuf::new(), &Silent);
        let found = std::sync::Mutex::new(vec![vec![0.0; view.n_vars()]; view.n_obs()]);
        let blocks = 0..matrix.grid().n_blocks();
        crate::pass::stream(matrix, &view, &ctx, "test", blocks, |_, block| {
            let mut found = found.lock().unwrap();
            for r in 0..block.n_rows() {
                let (genes, values) = block.row(r);
                for (&gene, &x) in genes.iter().zip(values) {
                    found[block.rows[r]][gene as usize] += x;
                }
            }
            Ok(())
        })?;
        Ok(found.into_inner().unwrap())
    }

    #[test]
    fn rows_have_the_total_asked_for_and_nothing_is_added() {
        let matrix = Matrix::counts(40, 25, 8);
        let got = run(&matrix, None, vec![Op::Downsample(draw(vec![20]))]).unwrap();
        for (got, had) in got.iter().zip(&matrix.dense) {
            let total: f64 = had.iter().sum();
            assert_eq!(got.iter().sum::<f64>(), total.min(20.0));
            assert!(got.iter().zip(had).all(|(g, h)| g <= h));
        }
        let other = Downsample { seed: 5, ..draw(vec![20]) };
        assert_ne!(run(&matrix, None, vec![Op::Downsample(other)]).unwrap(), got);
    }

    #[test]
    fn a_row_draws_the_same_wherever_it_stands() {
        let matrix = Matrix::counts(40, 25, 9);
        let wanted: Vec<u64> = (0..40).collect();
        for replace in [false, true] {
            let op = Downsample { replace, keep_fewer: !replace, ..draw(wanted.clone()) };
            let all = run(&matrix, None, vec![Op::Downsample(op.clone())]).unwrap();
            let rows = [39, 3, 3, 20, 0, 3];
            let some = run(&matrix, Some(&rows), vec![Op::Downsample(op.clone())]).unwrap();
            for (i, &row) in rows.iter().enumerate() {
                assert_eq!(some[i], all[row]);
            }
            // The same numbers, given for some rows in another order.
            let given = vec![20, 3, 39, 0];
            let counts = given.iter().map(|&row| row as u64).collect();
            let op = Downsample { rows: Some(given), counts, ..op };
            let again = run(&matrix, Some(&rows), vec![Op::Downsample(op.clone())]).unwrap();
            assert_eq!(again, some);
            assert!(run(&matrix, Some(&[5]), vec![Op::Downsample(op)]).is_err());
        }
    }

    #[test]
    fn with_replacement_totals_are_kept_or_filled() {
        let matrix = Matrix::counts(40, 25, 10);
        for keep_fewer in [true, false] {
            let op = Downsample { replace: true, keep_fewer, ..draw(vec![70]) };
            let got = run(&matrix, None, vec![Op::Downsample(op)]).unwrap();
            for (got, had) in got.iter().zip(&matrix.dense) {
                let had: f64 = had.iter().sum();
                let want = if had == 0.0 || keep_fewer { had.min(70.0) } else { 70.0 };
                assert_eq!(got.iter().sum::<f64>(), want);
            }
        }
    }

    #[test]
    fn selections_before_change_the_draw_and_selections_after_do_not() {
        let matrix = Matrix::counts(30, 25, 11);
        let genes = vec![3, 1, 7, 8];
        let select = Op::SelectGenes { genes: genes.clone() };
        let op = Op::Downsample(draw(vec![5]));
        let all = run(&matrix, None, vec![op.clone()]).unwrap();
        let after = run(&matrix, None, vec![op.clone(), select.clone()]).unwrap();
        for (all, after) in all.iter().zip(&after) {
            let want: Vec<f64> = genes.iter().map(|&g| all[g as usize]).collect();
            assert_eq!(*after, want);
        }
        let before = run(&matrix, None, vec![select, op]).unwrap();
        for (got, had) in before.iter().zip(&matrix.dense) {
            let had: f64 = genes.iter().map(|&g| had[g as usize]).sum();
            assert_eq!(got.iter().sum::<f64>(), had.min(5.0));
        }
    }

    #[test]
    fn only_counts_are_drawn_from() {
        let mut matrix = Matrix::counts(10, 5, 12);
        let op = Op::Downsample(draw(vec![3]));
        for bad in [0.5, -1.0, f64::NAN, f64::INFINITY, 1e300] {
            matrix.set(4, 2, bad);
            assert!(run(&matrix, None, vec![op.clone()]).is_err(), "{bad}");
            assert!(run(&matrix, Some(&[1, 2]), vec![op.clone()]).is_ok());
        }
        let normalize = Op::Normalize { target: 1.0, excluded: vec![] };
        let log = Op::Log1p { base: None };
        assert!(View::new(10, 5, None, &chain(vec![normalize.clone(), op.clone()])).is_err());
        assert!(View::new(10, 5, None, &chain(vec![log, op.clone()])).is_err());
        assert!(View::new(10, 5, None, &chain(vec![op.clone(), normalize])).is_ok());
        let logged = Chain { ops: vec![op], stored_log: Some(2.0) };
        assert!(View::new(10, 5, None, &logged).is_err());
        let short = Op::Downsample(draw(vec![3, 4]));
        assert!(View::new(10, 5, None, &chain(vec![short])).is_err());
    }

    fn chain(ops: Vec<Op>) -> Chain {
        Chain { ops, stored_log: None }
    }

    #[test]
    fn a_total_is_split_over_rows() {
        let rows = [7, 2, 9, 4];
        let totals = [100.0, 0.0, 3000.0, 50.0];
        for replace in [false, true] {
            let got = split_total(&rows, &totals, 500, replace, 1).unwrap();
            assert_eq!(got.iter().sum::<u64>(), 500);
            assert_eq!(got[1], 0);
            // In another order of rows.
            let back = split_total(&[4, 9, 2, 7], &[50.0, 3000.0, 0.0, 100.0], 500, replace, 1);
            let mut back = back.unwrap();
            back.reverse();
            assert_eq!(back, got);
        }
        assert_eq!(split_total(&rows, &totals, 3150, false, 1).unwrap(), [100, 0, 3000, 50]);
        assert!(split_total(&rows, &totals, 3151, false, 1).is_err());
        assert!(split_total(&rows, &totals, 3151, true, 1).is_ok());
        assert!(split_total(&[0], &[0.5], 0, false, 1).is_err());
        assert!(split_total(&[], &[], 1, true, 1).is_err());
        assert_eq!(split_total(&[], &[], 0, false, 1).unwrap(), Vec::<u64>::new());
    }
}
