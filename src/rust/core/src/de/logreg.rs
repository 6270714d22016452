//! Logistic regression of the groups of cells on all genes at once.
//!
//! The objective is that of scikit-learn's `LogisticRegression` with its default
//! penalty: the sum of the cells' losses plus half the sum of the squared
//! coefficients; intercepts are free. With two classes one vector of coefficients
//! tells the second from the first, with more each class has its own (softmax).
//!
//! 1. The view is packed into memory where half of the budget holds it; otherwise
//!    the matrix is read anew for every look at the data.
//! 2. Genes are centred in thought, which changes no coefficient but brings the
//!    minimum within reach; see [`newton`](crate::stats::newton) for the search.
//! 3. It ends when the norm of the gradient is below [`GRADIENT`]. Second
//!    derivatives are at least 1 along every coefficient, so no coefficient is
//!    further than about that from the exact one.
//!
//! Memory: beside the packed view 8 bytes a class and gene for each of ten vectors
//! and three partials a thread; 16 bytes a class and cell.

use serde::{Deserialize, Serialize};

use super::classes::{Models, fits};
use super::combine::Verdict;
use super::fold_change::{FoldChange, Side};
use super::group_pass::{Accumulate, GroupPass, gene_slices};
use super::groups::{Groups, NONE, not_finite};
use super::moments::GroupMoments;
use super::sides::{Sides, described, genes_at_a_time};
use super::table::{MarkerTable, TableBuilder, TableOptions};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::matrix::packed::PackedSource;
use crate::matrix::{RowBlock, Source};
use crate::pass::{Pass, pack, run, run_tiled};
use crate::stats::dist::PValue;
use crate::stats::logistic::{sigmoid, softmax, softplus};
use crate::stats::newton::{Limits, Minimum, Objective, minimize};
use crate::transform::View;

/// Norm of the gradient at which the search ends.
pub const GRADIENT: f64 = 1e-6;

/// Looks at the data at most.
const LOOKS: usize = 20_000;

/// Vectors of a search: its point and eight more, and one of the objective.
const VECTORS: u64 = 10;

/// The values that models are fitted to, in memory if they fit.
pub struct Training<'s> {
    packed: Option<PackedSource>,
    copy: View,
    source: &'s dyn Source,
    view: &'s View,
}

impl<'s> Training<'s> {
    /// Reads the view, unless it takes more than half of the budget.
    ///
    /// # Errors
    /// As [`pack`].
    pub fn read(source: &'s dyn Source, view: &'s View, ctx: &Ctx) -> Result<Self> {
        let packed = pack(source, view, ctx, "reading values", ctx.memory_bytes() / 2)?;
        Ok(Training { packed, copy: view.of_copy(), source, view })
    }

    /// The matrix to look at.
    #[must_use]
    pub fn source(&self) -> &dyn Source {
        self.packed.as_ref().map_or(self.source, |packed| packed)
    }

    /// The view of it.
    #[must_use]
    pub fn view(&self) -> &View {
        if self.packed.is_some() { &self.copy } else { self.view }
    }

    /// Whether a look at the data reads no file.
    #[must_use]
    pub fn in_memory(&self) -> bool {
        self.packed.is_some()
    }
}

/// The coefficients of a fitted model.
#[derive(Debug, Clone, PartialEq)]
pub struct LogReg {
    /// One vector with a value for each gene: of the second class against the first
    /// where there are two, of each class otherwise.
    pub coefficients: Vec<Vec<f64>>,
    /// Norm of the gradient.
    pub gradient: f64,
    /// Looks at the data.
    pub looks: usize,
}

impl LogReg {
    /// The coefficient of a gene in favour of a class.
    #[must_use]
    pub fn of_class(&self, class: usize, gene: usize) -> f64 {
        match self.coefficients.as_slice() {
            [one] if class == 0 => -one[gene],
            [one] => one[gene],
            all => all[class][gene],
        }
    }
}

/// What is compared, and how.
#[derive(Debug, Clone, Copy)]
pub struct LogRegTest<'c> {
    /// The unit of each cell.
    pub units: &'c Groups,
    /// The comparisons between units.
    pub comparisons: &'c [Sides],
    /// How they make models.
    pub models: Models,
    /// How fold changes are taken.
    pub fold_change: FoldChange,
}

/// What the models of some comparisons give.
pub struct Fitted {
    /// The table: the statistic is the coefficient, and there is no p-value.
    pub table: MarkerTable,
    /// Whether the file was read once, not for every look at the data.
    pub in_memory: bool,
    /// Looks at the data of all models.
    pub looks: usize,
}

impl LogRegTest<'_> {
    /// Fits what the comparisons need, and describes their sides.
    ///
    /// # Errors
    /// As [`logreg`] and [`Sides::sizes`].
    pub fn run(
        &self,
        source: &dyn Source,
        view: &View,
        ctx: &Ctx,
        options: TableOptions,
    ) -> Result<Fitted> {
        self.units.check_rows(view.n_obs())?;
        for sides in self.comparisons {
            sides.sizes(self.units)?;
        }
        let training = Training::read(source, view, ctx)?;
        let mut coefficients = vec![Vec::new(); self.comparisons.len()];
        let mut looks = 0;
        for fit in fits(self.units, view.n_obs(), self.comparisons, self.models)? {
            let model = logreg(&training, &fit.classes, ctx)?;
            looks += model.looks;
            for (comparison, class) in fit.serves {
                coefficients[comparison] =
                    (0..view.n_vars()).map(|gene| model.of_class(class, gene)).collect();
            }
        }
        let table = self.describe(&training, &coefficients, ctx, options)?;
        Ok(Fitted { table, in_memory: training.in_memory(), looks })
    }

    /// The table of the coefficients of each comparison.
    fn describe(
        &self,
        training: &Training,
        coefficients: &[Vec<f64>],
        ctx: &Ctx,
        options: TableOptions,
    ) -> Result<MarkerTable> {
        let view = training.view().clone().with_linear();
        let (n_units, n_vars) = (self.units.n_groups(), view.n_vars());
        let table = TableBuilder::new(options, self.comparisons.len(), n_vars)?;
        for slice in gene_slices::<GroupMoments>(n_units, n_vars, ctx.memory_bytes()) {
            let pass = GroupPass::<GroupMoments>::new(self.units, slice.clone());
            let tiles = run_tiled(training.source(), &view, ctx, "reading values", &pass)?;
            let moments = pass.table(tiles, ctx)?;
            let side = |units: &[u32], gene: usize| {
                let (mut total, mut n) = (GroupMoments::default(), 0);
                for &unit in units {
                    total.merge(&moments.at(unit as usize, gene - slice.start));
                    n += self.units.sizes()[unit as usize];
                }
                let all = total.values.with_zeros(n);
                let (detected, linear) = (total.values.n(), total.linear);
                (Side { n, detected, linear, mean: all.mean }, all)
            };
            for first in slice.clone().step_by(genes_at_a_time(self.comparisons.len())) {
                let genes = first..(first + genes_at_a_time(self.comparisons.len())).min(slice.end);
                let mut rows = Vec::with_capacity(genes.len() * self.comparisons.len());
                for gene in genes {
                    for (sides, own) in self.comparisons.iter().zip(coefficients) {
                        let ((group, a), (reference, b)) =
                            (side(&sides.group, gene), side(&sides.reference, gene));
                        let constant = a.same_constant(&b);
                        let verdict = Verdict { statistic: own[gene] + 0.0, p: UNTESTED };
                        rows.push(described(
                            verdict,
                            &group,
                            &reference,
                            constant,
                            self.fold_change,
                        ));
                    }
                }
                table.add(first, &mut rows);
            }
        }
        table.finish(ctx)
    }
}

/// The p-value of a coefficient.
const UNTESTED: PValue = PValue { p_value: f64::NAN, log10_p: f64::NAN };

/// Fits the model of `classes`; cells without one take no part.
///
/// # Errors
/// When a class is empty or there are fewer than two, a value is not finite,
/// memory does not suffice, the search does not converge, or reading fails.
///
/// # Numerics
/// Every sum over cells is taken block by block in the order of the grid, so that
/// threads and memory do not show in the result.
pub fn logreg(training: &Training, classes: &Groups, ctx: &Ctx) -> Result<LogReg> {
    let (view, n_classes) = (training.view(), classes.n_groups());
    classes.check_rows(view.n_obs())?;
    if n_classes < 2 || classes.sizes().contains(&0) {
        return Err(Error::InvalidInput {
            argument: "group",
            message: "a logistic regression needs cells in each of two classes or more".into(),
        });
    }
    // Binary models are one vector, softmax goes by tiles of classes.
    match n_classes {
        2 => fit::<1>(training, classes, ctx),
        3 | 4 => fit::<4>(training, classes, ctx),
        _ => fit::<8>(training, classes, ctx),
    }
}

fn fit<const LANES: usize>(training: &Training, classes: &Groups, ctx: &Ctx) -> Result<LogReg> {
    let shape = Shape::<LANES>::new(classes, training.view().n_vars());
    let vector = 8 * shape.len() as u64;
    let cells = classes.sizes().iter().sum::<u64>();
    ctx.check_budget(
        || "fitting a logistic regression".to_owned(),
        vector * (VECTORS + 3 * ctx.threads() as u64) + 16 * cells * shape.n_columns as u64,
    )?;
    let scan =
        |stage: &str, pass: &GeneSums| run(training.source(), training.view(), ctx, stage, pass);
    let sums = scan("reading values", &GeneSums { classes, n_vars: shape.n_vars })?;
    let n = cells as f64;
    let means: Vec<f64> = sums.sum.iter().map(|sum| sum / n).collect();
    let scatter = sums.squares.iter().zip(&means).map(|(sq, m)| (sq - n * m * m).max(0.0));
    let mut problem = Problem {
        training,
        ctx,
        classes,
        shape,
        scatter: scatter.collect(),
        means,
        probabilities: vec![0.0; training.view().n_obs() * shape.n_columns],
        n_cells: n,
    };
    let limits = Limits { gradient: GRADIENT, looks: LOOKS };
    let found = minimize(&mut problem, vec![0.0; shape.len()], limits)?;
    // Rounding may end the search on the last bit of a large gradient.
    if found.gradient > GRADIENT * n.sqrt().max(1.0) {
        return Err(not_converged(&found));
    }
    let vector = |column| (0..shape.n_vars).map(|gene| found.x[shape.at(column, gene)]).collect();
    Ok(LogReg {
        coefficients: (0..shape.n_columns).map(vector).collect(),
        gradient: found.gradient,
        looks: found.looks,
    })
}

fn not_converged(found: &Minimum) -> Error {
    Error::NotConverged {
        message: format!(
            "the logistic regression did not converge: after {} looks at the data the norm of \
             its gradient is {:.1e}",
            found.looks, found.gradient
        ),
    }
}

/// Where the coefficients are in the search's vector: columns (one, or one a class)
/// in tiles of `LANES`; in each tile the genes and then the intercept, each with
/// the tile's columns side by side. Places past the last column stay zero.
#[derive(Debug, Clone, Copy)]
struct Shape<const LANES: usize> {
    n_vars: usize,
    n_columns: usize,
}

impl<const LANES: usize> Shape<LANES> {
    fn new(classes: &Groups, n_vars: usize) -> Self {
        let n_classes = classes.n_groups();
        Shape { n_vars, n_columns: if n_classes == 2 { 1 } else { n_classes } }
    }

    fn n_tiles(self) -> usize {
        self.n_columns.div_ceil(LANES)
    }

    fn tile(self) -> usize {
        (self.n_vars + 1) * LANES
    }

    fn len(self) -> usize {
        self.n_tiles() * self.tile()
    }

    fn at(self, column: usize, gene: usize) -> usize {
        column / LANES * self.tile() + gene * LANES + column % LANES
    }

    /// What cells without any gene score in each place of the tiles: the intercepts
    /// less what centred genes take.
    fn offsets(self, x: &[f64], means: &[f64]) -> Vec<f64> {
        let mut offsets = Vec::with_capacity(self.n_tiles() * LANES);
        for tile in x.chunks_exact(self.tile()) {
            let mut lanes = [0.0; LANES];
            for (coefficients, mean) in tile.chunks_exact(LANES).zip(means) {
                for (lane, coefficient) in lanes.iter_mut().zip(coefficients) {
                    *lane -= mean * coefficient;
                }
            }
            let intercepts = &tile[self.n_vars * LANES..];
            offsets.extend(lanes.iter().zip(intercepts).map(|(lane, b)| lane + b));
        }
        offsets
    }

    /// Adds the products of a cell's values and the coefficients to its scores.
    fn score(self, (genes, values): (&[u32], &[f64]), x: &[f64], scores: &mut [f64]) {
        for (tile, scores) in x.chunks_exact(self.tile()).zip(scores.chunks_exact_mut(LANES)) {
            let mut lanes = [0.0; LANES];
            for (&gene, &value) in genes.iter().zip(values) {
                let coefficients = &tile[gene as usize * LANES..][..LANES];
                for (lane, coefficient) in lanes.iter_mut().zip(coefficients) {
                    *lane += value * coefficient;
                }
            }
            for (score, lane) in scores.iter_mut().zip(lanes) {
                *score += lane;
            }
        }
    }

    /// Adds the products of a cell's values and its residuals to the sums.
    fn spread(self, (genes, values): (&[u32], &[f64]), residuals: &[f64], sums: &mut [f64]) {
        for (tile, from) in sums.chunks_exact_mut(self.tile()).zip(residuals.chunks_exact(LANES)) {
            let mut lanes = [0.0; LANES];
            lanes.copy_from_slice(from);
            for (&gene, &value) in genes.iter().zip(values) {
                let sums = &mut tile[gene as usize * LANES..][..LANES];
                for (sum, lane) in sums.iter_mut().zip(lanes) {
                    *sum += value * lane;
                }
            }
            for (sum, lane) in tile[self.n_vars * LANES..].iter_mut().zip(lanes) {
                *sum += lane;
            }
        }
    }

    /// Turns sums over cells into derivatives at `x`: of centred genes, with the
    /// penalty's.
    fn derivatives(self, sums: &mut [f64], means: &[f64], x: &[f64]) {
        let tiles = sums.chunks_exact_mut(self.tile()).zip(x.chunks_exact(self.tile()));
        for (sums, x) in tiles {
            let (genes, intercepts) = sums.split_at_mut(self.n_vars * LANES);
            let x = x.chunks_exact(LANES);
            for ((sums, x), mean) in genes.chunks_exact_mut(LANES).zip(x).zip(means) {
                for ((sum, x), total) in sums.iter_mut().zip(x).zip(&*intercepts) {
                    *sum += x - mean * total;
                }
            }
        }
    }
}

/// The objective over the view.
struct Problem<'a, const LANES: usize> {
    training: &'a Training<'a>,
    ctx: &'a Ctx<'a>,
    classes: &'a Groups,
    shape: Shape<LANES>,
    means: Vec<f64>,
    /// Sums of squares about the mean.
    scatter: Vec<f64>,
    /// Of each cell's columns, at the point that was evaluated last.
    probabilities: Vec<f64>,
    n_cells: f64,
}

impl<const LANES: usize> Objective for Problem<'_, LANES> {
    type Error = Error;

    fn evaluate(&mut self, x: &[f64], gradient: &mut [f64]) -> Result<f64> {
        let pass = Evaluate {
            classes: self.classes,
            shape: self.shape,
            x,
            offsets: self.shape.offsets(x, &self.means),
        };
        let (source, view) = (self.training.source(), self.training.view());
        let total = run(source, view, self.ctx, "fitting", &pass)?;
        let columns = self.shape.n_columns;
        for (&position, from) in total.rows.iter().zip(total.probabilities.chunks_exact(columns)) {
            self.probabilities[position * columns..][..columns].copy_from_slice(from);
        }
        gradient.copy_from_slice(&total.sums);
        self.shape.derivatives(gradient, &self.means, x);
        let genes = x.chunks_exact(self.shape.tile()).map(|tile| {
            let penalised = &tile[..self.shape.n_vars * LANES];
            penalised.iter().map(|c| c * c).sum::<f64>()
        });
        Ok(total.loss + 0.5 * genes.sum::<f64>())
    }

    fn product(&mut self, direction: &[f64], product: &mut [f64]) -> Result<()> {
        let pass = Bend {
            classes: self.classes,
            shape: self.shape,
            direction,
            offsets: self.shape.offsets(direction, &self.means),
            probabilities: &self.probabilities,
        };
        let (source, view) = (self.training.source(), self.training.view());
        let sums = run(source, view, self.ctx, "fitting", &pass)?;
        product.copy_from_slice(&sums);
        self.shape.derivatives(product, &self.means, direction);
        Ok(())
    }

    /// As if the variance of a class were the same in all cells.
    fn diagonal(&self, diagonal: &mut [f64]) {
        let shape = self.shape;
        diagonal.fill(1.0);
        for column in 0..shape.n_columns {
            let mut total = 0.0;
            for p in self.probabilities.iter().skip(column).step_by(shape.n_columns) {
                total += p * (1.0 - p);
            }
            for (gene, scatter) in self.scatter.iter().enumerate() {
                diagonal[shape.at(column, gene)] = 1.0 + total / self.n_cells * scatter;
            }
            diagonal[shape.at(column, shape.n_vars)] = total.max(f64::MIN_POSITIVE.sqrt());
        }
    }
}

/// The loss, its sums by gene, and the probabilities of the cells.
struct Evaluate<'a, const LANES: usize> {
    classes: &'a Groups,
    shape: Shape<LANES>,
    x: &'a [f64],
    offsets: Vec<f64>,
}

/// What [`Evaluate`] adds up; `rows` and `probabilities` are in the file's order.
#[derive(Serialize, Deserialize)]
struct Evaluated {
    loss: f64,
    sums: Vec<f64>,
    rows: Vec<usize>,
    probabilities: Vec<f64>,
}

impl<const LANES: usize> Pass for Evaluate<'_, LANES> {
    type Partial = Evaluated;

    fn empty(&self) -> Evaluated {
        let sums = vec![0.0; self.shape.len()];
        Evaluated { loss: 0.0, sums, rows: Vec::new(), probabilities: Vec::new() }
    }

    fn partial_bytes(&self) -> usize {
        8 * self.shape.len()
    }

    fn fold(&self, block: &RowBlock, partial: &mut Evaluated) -> Result<()> {
        let columns = self.shape.n_columns;
        let mut scores = self.offsets.clone();
        for (r, &position) in block.rows.iter().enumerate() {
            let class = self.classes.of(position);
            if class == NONE {
                continue;
            }
            let class = class as usize;
            scores.copy_from_slice(&self.offsets);
            self.shape.score(block.row(r), self.x, &mut scores);
            if columns == 1 {
                partial.loss += softplus(if class == 1 { -scores[0] } else { scores[0] });
                scores[0] = sigmoid(scores[0]);
            } else {
                let own = scores[class];
                partial.loss += softmax(&mut scores[..columns]) - own;
            }
            scores[columns..].fill(0.0);
            partial.rows.push(position);
            partial.probabilities.extend_from_slice(&scores[..columns]);
            if columns == 1 {
                scores[0] -= class as f64;
            } else {
                scores[class] -= 1.0;
            }
            self.shape.spread(block.row(r), &scores, &mut partial.sums);
        }
        Ok(())
    }

    fn merge(&self, into: &mut Evaluated, from: Evaluated) {
        into.loss += from.loss;
        add(&mut into.sums, &from.sums);
        into.rows.extend(from.rows);
        into.probabilities.extend(from.probabilities);
    }
}

/// Products with the second derivatives of the loss.
struct Bend<'a, const LANES: usize> {
    classes: &'a Groups,
    shape: Shape<LANES>,
    direction: &'a [f64],
    offsets: Vec<f64>,
    probabilities: &'a [f64],
}

impl<const LANES: usize> Pass for Bend<'_, LANES> {
    type Partial = Vec<f64>;

    fn empty(&self) -> Vec<f64> {
        vec![0.0; self.shape.len()]
    }

    fn partial_bytes(&self) -> usize {
        8 * self.shape.len()
    }

    fn fold(&self, block: &RowBlock, partial: &mut Vec<f64>) -> Result<()> {
        let columns = self.shape.n_columns;
        let mut scores = self.offsets.clone();
        for (r, &position) in block.rows.iter().enumerate() {
            if self.classes.of(position) == NONE {
                continue;
            }
            scores.copy_from_slice(&self.offsets);
            self.shape.score(block.row(r), self.direction, &mut scores);
            let p = &self.probabilities[position * columns..][..columns];
            if columns == 1 {
                scores[0] *= p[0] * (1.0 - p[0]);
            } else {
                let mean: f64 = scores.iter().zip(p).map(|(u, p)| u * p).sum();
                for (score, p) in scores.iter_mut().zip(p) {
                    *score = p * (*score - mean);
                }
                scores[columns..].fill(0.0);
            }
            self.shape.spread(block.row(r), &scores, partial);
        }
        Ok(())
    }

    fn merge(&self, into: &mut Vec<f64>, from: Vec<f64>) {
        add(into, &from);
    }
}

/// Sums and squares of every gene over the cells that have a class.
struct GeneSums<'a> {
    classes: &'a Groups,
    n_vars: usize,
}

#[derive(Serialize, Deserialize)]
struct Moments {
    sum: Vec<f64>,
    squares: Vec<f64>,
}

impl Pass for GeneSums<'_> {
    type Partial = Moments;

    fn empty(&self) -> Moments {
        Moments { sum: vec![0.0; self.n_vars], squares: vec![0.0; self.n_vars] }
    }

    fn partial_bytes(&self) -> usize {
        16 * self.n_vars
    }

    fn fold(&self, block: &RowBlock, partial: &mut Moments) -> Result<()> {
        for (r, &position) in block.rows.iter().enumerate() {
            if self.classes.of(position) == NONE {
                continue;
            }
            let (genes, values) = block.row(r);
            if values.iter().any(|value| !value.is_finite()) {
                return Err(not_finite(values, genes, position));
            }
            for (&gene, &value) in genes.iter().zip(values) {
                partial.sum[gene as usize] += value;
                partial.squares[gene as usize] += value * value;
            }
        }
        Ok(())
    }

    fn merge(&self, into: &mut Moments, from: Moments) {
        add(&mut into.sum, &from.sum);
        add(&mut into.squares, &from.squares);
    }
}

fn add(into: &mut [f64], from: &[f64]) {
    for (a, b) in into.iter_mut().zip(from) {
        *a += b;
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::Order;
    use super::*;
    use crate::ctx::Silent;
    use crate::matrix::testing::Matrix;
    use crate::transform::{Chain, Op};

    const N_VARS: usize = 23;

    fn ctx(threads: usize, memory: u64) -> Ctx<'static> {
        Ctx::new(threads, memory, std::env::temp_dir(), &Silent)
    }

    fn view(n_obs: usize) -> View {
        let ops = vec![Op::Normalize { target: 20.0, excluded: vec![] }, Op::Log1p { base: None }];
        View::new(n_obs, N_VARS, None, &Chain { ops, stored_log: None }).unwrap()
    }

    /// The values of a view of counts, as loops see them.
    fn logs(matrix: &Matrix) -> Vec<Vec<f64>> {
        matrix
            .dense
            .iter()
            .map(|row| {
                let total: f64 = row.iter().sum();
                let share = |x: f64| if total > 0.0 { x * 20.0 / total } else { 0.0 };
                row.iter().map(|&x| share(x).ln_1p()).collect()
            })
            .collect()
    }

    fn classes(n_obs: usize, n_classes: u32) -> Groups {
        let code = |i: usize| if i % 7 == 3 { NONE } else { (i / 2) as u32 % n_classes };
        Groups::new((0..n_obs).map(code).collect(), n_classes as usize).unwrap()
    }

    /// The gradient of the objective at the coefficients, with the intercepts that
    /// belong to them, found by Newton steps on the intercepts alone.
    fn gradient(x: &[Vec<f64>], classes: &Groups, model: &LogReg) -> f64 {
        let k = classes.n_groups();
        let score = |i: usize, c: usize| -> f64 {
            match model.coefficients.as_slice() {
                [one] => {
                    let s: f64 = x[i].iter().zip(one).map(|(x, w)| x * w).sum();
                    if c == 1 { s } else { 0.0 }
                }
                all => x[i].iter().zip(&all[c]).map(|(x, w)| x * w).sum(),
            }
        };
        let cells: Vec<usize> = (0..x.len()).filter(|&i| classes.of(i) != NONE).collect();
        let mut intercepts = vec![0.0; k];
        let probabilities = |intercepts: &[f64]| -> Vec<Vec<f64>> {
            let each = |&i: &usize| {
                let e: Vec<f64> = (0..k).map(|c| (score(i, c) + intercepts[c]).exp()).collect();
                let sum: f64 = e.iter().sum();
                e.iter().map(|e| e / sum).collect()
            };
            cells.iter().map(each).collect()
        };
        for _ in 0..20_000 {
            let p = probabilities(&intercepts);
            for c in 1..k {
                let wanted = classes.sizes()[c] as f64;
                let have: f64 = p.iter().map(|p| p[c]).sum();
                intercepts[c] += 0.5 * (wanted / have).ln();
            }
        }
        let p = probabilities(&intercepts);
        let mut worst = 0.0_f64;
        for (column, own) in model.coefficients.iter().enumerate() {
            let class = if model.coefficients.len() == 1 { 1 } else { column };
            for (gene, coefficient) in own.iter().enumerate() {
                let mut sum = *coefficient;
                for (&i, p) in cells.iter().zip(&p) {
                    let hit = f64::from(u32::from(classes.of(i) as usize == class));
                    sum += x[i][gene] * (p[class] - hit);
                }
                worst = worst.max(sum.abs());
            }
        }
        worst
    }

    #[test]
    fn the_gradient_vanishes_for_any_number_of_classes() {
        let matrix = Matrix::counts(61, N_VARS, 11);
        let (view, x) = (view(61), logs(&matrix));
        let ctx = ctx(2, 1 << 30);
        let training = Training::read(&matrix, &view, &ctx).unwrap();
        assert!(training.in_memory());
        for k in [2, 3, 4, 5, 9] {
            let classes = classes(61, k);
            let model = logreg(&training, &classes, &ctx).unwrap();
            assert_eq!(model.coefficients.len(), if k == 2 { 1 } else { k as usize });
            assert!(model.gradient <= GRADIENT);
            let worst = gradient(&x, &classes, &model);
            assert!(worst < 1e-5, "{k} classes: {worst}");
        }
    }

    #[test]
    fn threads_and_memory_do_not_show() {
        let matrix = Matrix::counts(61, N_VARS, 5);
        let view = view(61);
        let classes = classes(61, 5);
        let fit = |threads, packed| {
            let ctx = ctx(threads, 1 << 30);
            let tight = Ctx::new(1, 0, std::env::temp_dir(), &Silent);
            let training =
                Training::read(&matrix, &view, if packed { &ctx } else { &tight }).unwrap();
            assert_eq!(training.in_memory(), packed);
            logreg(&training, &classes, &ctx).unwrap()
        };
        let one = fit(1, true);
        for (threads, packed) in [(2, true), (4, true), (1, false), (3, false)] {
            assert_eq!(fit(threads, packed), one, "{threads} threads, packed {packed}");
        }
    }

    #[test]
    fn comparisons_get_their_coefficients_and_descriptions() {
        let matrix = Matrix::counts(61, N_VARS, 6);
        let (view, x, ctx) = (view(61), logs(&matrix), ctx(2, 1 << 30));
        let units = classes(61, 3);
        let sides = |group: u32, reference: &[u32]| Sides {
            group: vec![group],
            reference: reference.to_vec(),
        };
        let asked = [sides(0, &[1]), sides(1, &[0]), sides(2, &[0])];
        let run = |asked: &[Sides], models| {
            let fold_change = FoldChange::LinearMeans { pseudocount: 1.0 };
            let test = LogRegTest { units: &units, comparisons: asked, models, fold_change };
            let options = TableOptions::all(Order::Statistic, None);
            let fitted = test.run(&matrix, &view, &ctx, options).unwrap();
            assert!(fitted.in_memory && fitted.looks > 2);
            assert!(fitted.table.rows.is_sorted_by(|a, b| {
                a.statistic >= b.statistic || a.statistic < 0.0 && b.statistic > 0.0
            }));
            let mut found = vec![Vec::new(); asked.len()];
            let places = fitted.table.comparison.iter().zip(&fitted.table.gene);
            for ((&comparison, &gene), row) in places.zip(fitted.table.rows) {
                found[comparison as usize].push((gene, row));
            }
            for rows in &mut found {
                rows.sort_by_key(|(gene, _)| *gene);
            }
            found
        };
        let got = run(&asked, Models::Pairs);
        for gene in 0..N_VARS {
            let (ab, ba) = (&got[0][gene].1, &got[1][gene].1);
            assert_eq!(ab.statistic, 0.0 - ba.statistic);
            assert!((ab.log2_fc + ba.log2_fc).abs() < 1e-14);
            assert!(ab.p_value.is_nan() && ab.auc.is_nan());
            let own: Vec<f64> = (0..61).filter(|&i| units.of(i) == 0).map(|i| x[i][gene]).collect();
            let mean = own.iter().map(|x| x.exp_m1()).sum::<f64>() / own.len() as f64;
            assert!((ab.mean.0 - mean).abs() < 1e-12);
            let detected = own.iter().filter(|&&x| x > 0.0).count();
            assert_eq!(ab.fraction.0, detected as f64 / own.len() as f64);
        }
        // A gene that is absent has no coefficient at all.
        assert_eq!(got[0][N_VARS - 1].1.statistic.to_bits(), 0.0_f64.to_bits());
        let shared = run(&asked[..1], Models::Shared);
        for ((_, a), (_, b)) in shared[0].iter().zip(&got[0]) {
            assert!((a.statistic - b.statistic).abs() < 2.0 * GRADIENT);
        }
    }

    #[test]
    fn what_can_not_be_fitted_is_an_error() {
        let matrix = Matrix::counts(61, N_VARS, 6);
        let view = view(61);
        let ctx = ctx(1, 1 << 30);
        let training = Training::read(&matrix, &view, &ctx).unwrap();
        let one = Groups::new(vec![0; 61], 1).unwrap();
        let empty = Groups::new(vec![0; 61], 2).unwrap();
        for classes in [one, empty] {
            assert!(logreg(&training, &classes, &ctx).is_err());
        }
        let mut matrix = Matrix::counts(61, N_VARS, 6);
        matrix.set(20, 4, f64::NAN);
        let plain = View::new(61, N_VARS, None, &Chain::default()).unwrap();
        let training = Training::read(&matrix, &plain, &ctx).unwrap();
        let error = logreg(&training, &classes(61, 2), &ctx).unwrap_err();
        assert!(error.to_string().contains("cell 21 and gene 5"), "{error}");
    }
}
