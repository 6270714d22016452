//! Testing gene by gene, in parallel.

use std::ops::Range;

use super::table::{RowBatch, TableBuilder};
use crate::ctx::Ctx;
use crate::error::Result;

/// Genes of one task at most: enough that a task is worth its start, and that what is
/// read for one gene serves its neighbours.
const TASK_GENES: usize = 256;

/// Tasks of a thread at least, so that none waits long for the last one.
const TASKS: usize = 16;

/// Rows of one task, about: a few megabytes.
const TASK_ROWS: usize = 1 << 16;

/// Genes of one task of a slice of `n_genes` where there are so many comparisons. A thread
/// takes those of a task one after the other; tasks begin at the first gene of the slice.
pub(super) fn genes_of_task(ctx: &Ctx, n_genes: usize, n_comparisons: usize) -> usize {
    let most = TASK_GENES.min(n_genes / (TASKS * ctx.threads()));
    most.min(TASK_ROWS / n_comparisons.max(1)).max(1)
}

/// Runs `test` on every gene of a slice; it pushes or skips the rows of the gene, one for
/// each of `n_comparisons`. They go to the table.
pub(super) fn for_each_gene<S>(
    ctx: &Ctx,
    genes: Range<usize>,
    n_comparisons: usize,
    table: &TableBuilder,
    scratch: impl Fn() -> S + Sync,
    test: impl Fn(usize, &mut S, &mut RowBatch) -> Result<()> + Sync,
) -> Result<()> {
    if n_comparisons == 0 {
        return Ok(());
    }
    let task_genes = genes_of_task(ctx, genes.len(), n_comparisons);
    let n_tasks = genes.len().div_ceil(task_genes);
    let state = || (scratch(), RowBatch::new(table));
    ctx.parallel("testing genes", n_tasks, state, |task, (scratch, rows)| {
        let first = genes.start + task * task_genes;
        let own = first..(first + task_genes).min(genes.end);
        rows.begin(own.clone());
        for gene in own {
            test(gene, scratch, rows)?;
        }
        rows.deliver();
        Ok(())
    })
}
