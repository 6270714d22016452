//! Selections of rows and genes: any order, repeats allowed.

use crate::error::{Error, Result};
use crate::matrix::RowBlock;

/// Rows of a file chosen for a view, sorted by their place in the file.
///
/// Memory: 16 bytes a selected row.
#[derive(Debug, Clone)]
pub(crate) struct RowSelection {
    /// (row of the file, position in the view), in that order.
    sorted: Vec<(usize, usize)>,
}

impl RowSelection {
    /// `rows[i]` is the file's row at position `i` of the view.
    pub(crate) fn new(rows: &[usize], n_obs: usize) -> Result<Self> {
        if let Some(row) = rows.iter().find(|&&row| row >= n_obs) {
            return Err(Error::InvalidInput {
                argument: "rows",
                message: format!("row {} is selected, but there are {n_obs}", row + 1),
            });
        }
        let mut sorted: Vec<_> = rows.iter().enumerate().map(|(at, &row)| (row, at)).collect();
        if !rows.is_sorted() {
            sorted.sort_unstable();
        }
        Ok(RowSelection { sorted })
    }

    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether a row is selected more than once.
    pub(crate) fn repeats(&self) -> bool {
        self.sorted.windows(2).any(|pair| pair[0].0 == pair[1].0)
    }

    /// Whether any row of the half-open range is selected.
    pub(crate) fn touches(&self, rows: &std::ops::Range<usize>) -> bool {
        let at = self.sorted.partition_point(|(row, _)| *row < rows.start);
        self.sorted.get(at).is_some_and(|(row, _)| *row < rows.end)
    }

    /// How many rows of the half-open range are selected, repeats counted.
    pub(crate) fn count(&self, rows: &std::ops::Range<usize>) -> usize {
        let from = self.sorted.partition_point(|(row, _)| *row < rows.start);
        let to = self.sorted.partition_point(|(row, _)| *row < rows.end);
        to - from
    }

    /// The selected rows of a block, in file order.
    fn chosen(&self, block: &RowBlock) -> &[(usize, usize)] {
        let (Some(&first), Some(&last)) = (block.rows.first(), block.rows.last()) else {
            return &[];
        };
        let from = self.sorted.partition_point(|(row, _)| *row < first);
        let to = self.sorted.partition_point(|(row, _)| *row <= last);
        &self.sorted[from..to]
    }

    /// Entries of the selected rows of a block.
    pub(crate) fn entries(&self, block: &RowBlock) -> u64 {
        let row = |row| block.row(row - block.rows[0]).0.len() as u64;
        self.chosen(block).iter().map(|(chosen, _)| row(*chosen)).sum()
    }

    /// Gives the rows of a block their positions in the view, where the block has
    /// the selected rows and no others. `false` where it has not.
    pub(crate) fn relabel(&self, block: &mut RowBlock) -> bool {
        let chosen = self.chosen(block);
        let complete = chosen.len() == block.rows.len()
            && chosen.iter().zip(&block.rows).all(|((row, _), have)| row == have);
        if complete {
            block.rows.clear();
            block.rows.extend(chosen.iter().map(|(_, at)| at));
        }
        complete
    }

    /// Copies the selected rows of `block` from the `from`th on to `out`, in file
    /// order and with their positions in the view, until there are about
    /// `most_values` entries (or as many rows). Returns where to go on, `None` at the
    /// end.
    pub(crate) fn copy(
        &self,
        block: &RowBlock,
        from: usize,
        most_values: usize,
        out: &mut RowBlock,
    ) -> Option<usize> {
        let chosen = self.chosen(block);
        out.clear();
        out.indptr.push(0);
        for (at, (row, position)) in chosen.iter().enumerate().skip(from) {
            if out.nnz() >= most_values || out.n_rows() >= most_values {
                return Some(at);
            }
            let (indices, values) = block.row(row - block.rows[0]);
            out.indices.extend_from_slice(indices);
            out.values.extend_from_slice(values);
            out.indptr.push(out.indices.len());
            out.rows.push(*position);
        }
        None
    }
}

/// Genes chosen from the columns so far.
#[derive(Debug, Clone)]
pub(crate) enum GeneSelection {
    /// Each old column goes to at most one new one (`u32::MAX`: nowhere).
    Unique(Vec<u32>),
    /// Old column `g` goes to `to[offsets[g]..offsets[g + 1]]`.
    Repeated { offsets: Vec<usize>, to: Vec<u32> },
}

impl GeneSelection {
    /// `genes[j]` is the old column at new column `j`.
    pub(crate) fn new(genes: &[u32], n_vars: usize) -> Result<Self> {
        let mut unique = vec![u32::MAX; n_vars];
        let mut repeated = false;
        for (new, &old) in genes.iter().enumerate() {
            let Some(slot) = unique.get_mut(old as usize) else {
                return Err(Error::InvalidInput {
                    argument: "genes",
                    message: format!("gene {} is selected, but there are {n_vars}", old + 1),
                });
            };
            repeated |= *slot != u32::MAX;
            *slot = new as u32;
        }
        if !repeated {
            return Ok(GeneSelection::Unique(unique));
        }
        let mut offsets = vec![0; n_vars + 1];
        for &old in genes {
            offsets[old as usize + 1] += 1;
        }
        for g in 0..n_vars {
            offsets[g + 1] += offsets[g];
        }
        let mut next = offsets.clone();
        let mut to = vec![0; genes.len()];
        for (new, &old) in genes.iter().enumerate() {
            to[next[old as usize]] = new as u32;
            next[old as usize] += 1;
        }
        Ok(GeneSelection::Repeated { offsets, to })
    }

    pub(crate) fn apply(&self, block: &mut RowBlock, spare: &mut RowBlock) {
        match self {
            GeneSelection::Unique(map) => compact(block, map),
            GeneSelection::Repeated { offsets, to } => {
                spare.clear();
                spare.indptr.push(0);
                let with_linear = !block.linear.is_empty();
                for r in 0..block.n_rows() {
                    for at in block.indptr[r]..block.indptr[r + 1] {
                        let old = block.indices[at] as usize;
                        for &new in &to[offsets[old]..offsets[old + 1]] {
                            spare.indices.push(new);
                            spare.values.push(block.values[at]);
                            if with_linear {
                                spare.linear.push(block.linear[at]);
                            }
                        }
                    }
                    spare.indptr.push(spare.indices.len());
                }
                std::mem::swap(&mut block.rows, &mut spare.rows);
                std::mem::swap(block, spare);
            }
        }
    }
}

/// Drops the entries of columns that lead nowhere, in place.
fn compact(block: &mut RowBlock, map: &[u32]) {
    let with_linear = !block.linear.is_empty();
    let mut kept = 0;
    let mut start = 0;
    for r in 0..block.n_rows() {
        let end = block.indptr[r + 1];
        for at in start..end {
            let new = map[block.indices[at] as usize];
            // Written always, advanced only where the gene is kept: no branch.
            block.indices[kept] = new;
            block.values[kept] = block.values[at];
            if with_linear {
                block.linear[kept] = block.linear[at];
            }
            kept += usize::from(new != u32::MAX);
        }
        start = end;
        block.indptr[r + 1] = kept;
    }
    block.indices.truncate(kept);
    block.values.truncate(kept);
    if with_linear {
        block.linear.truncate(kept);
    }
}
