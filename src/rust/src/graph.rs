//! The graph of neighbouring cells for R.

use extendr_api::prelude::*;
use scoom_core::ctx::Ctx;
use scoom_core::error::{Error, Result};
use scoom_core::graph::{
    ByNeighbor, Curve, Density, Descent, DiffusionMap, Kernel, Local, Method, Metric, Neighbors,
    Network, Objective, Points, Positions, Sparse, Table, Transitions, Votes, check_graph,
    communities, components_of, connectivities, diffusion_map, diffusion_pseudotime,
    exact_neighbors, modularity, nearest_among, paga, ranked_neighbors, umap_layout, umap_place,
    vote, without_zeros,
};

use crate::convert::{Args, named, unsigned, wrong};
use crate::guard::guard;
use crate::plan::with_ctx;

/// Distances to the nearest neighbours of the rows of a matrix, and
/// connectivities.
///
/// `args`: `x` in columns and `n_obs`; `k` neighbours of each, itself not counted;
/// `metric`; `candidates`, positions from one on in columns, or `NULL` to compare all
/// pairs; `kernel` and, for `"snn"`, `prune`.
/// @noRd
#[extendr]
fn rs_graph_neighbors(args: Robj, ctx: Robj) -> Robj {
    guard(|| {
        let args = Args::new(&args);
        let kernel = kernel(&args)?;
        with_ctx(&ctx, |ctx| {
            let found = nearest(&args, ctx)?;
            let mut distances = ByColumns::with_room(found.offsets_by_neighbor())?;
            let (offsets, cells, values) = distances.room()?;
            found.write_by_neighbor(offsets, cells, values);
            let graph = match kernel {
                Kernel::Umap => {
                    let local = Local::umap(&found, ctx)?;
                    union(&distances, found, &local, ctx)?
                }
                Kernel::Gaussian => {
                    let local = Local::gaussian(&found);
                    union(&distances, found, &local, ctx)?
                }
                Kernel::SharedNeighbors { .. } => {
                    ByColumns::of(&connectivities(&found, kernel, ctx)?)?
                }
            };
            let rows = unsigned(graph.parts()?.0).ok_or_else(no_room)?;
            let found = components_of(&graph.offsets, rows);
            let n_components = found.iter().max().map_or(0, |last| last + 1);
            Ok(named(vec![
                ("distances", distances.into_robj()),
                ("connectivities", graph.into_robj()),
                ("n_components", n_components.into()),
            ]))
        })
    })
}

/// The nearest neighbours as a table: `index` from one on and `distance`, cells in
/// rows, without the cell itself. `args` as of `rs_graph_neighbors()`.
/// @noRd
#[extendr]
fn rs_graph_nearest(args: Robj, ctx: Robj) -> Robj {
    guard(|| {
        let args = Args::new(&args);
        with_ctx(&ctx, |ctx| table(&nearest(&args, ctx)?))
    })
}

/// The table that a matrix of distances (`p`, `i`, `x` of its columns) holds;
/// `index` is `NULL` where its rows have different numbers of entries.
/// @noRd
#[extendr]
fn rs_graph_table(args: Robj) -> Robj {
    guard(|| {
        let distances = square(&Args::new(&args))?.transposed();
        match Neighbors::from_distances(&distances) {
            Ok(found) => table(&found),
            Err(_) => Ok(named(vec![("index", NULL.into()), ("distance", NULL.into())])),
        }
    })
}

/// The component of each cell, from one on, of a graph (`p`, `i`, `x`).
/// @noRd
#[extendr]
fn rs_graph_components(args: Robj) -> Robj {
    guard(|| {
        let Stored { offsets, columns, .. } = Stored::new(&Args::new(&args))?;
        Ok(components_of(&offsets, columns).iter().map(|&c| c as i32 + 1).collect_robj())
    })
}

/// Diffusion components of a symmetric graph (`p`, `i`, `x`): `values` and, in
/// columns, `vectors`. `args`: `n_comps`, how many; `kind`, `"diffusion"` or
/// `"laplacian"`.
/// @noRd
#[extendr]
fn rs_graph_diffusion(args: Robj, ctx: Robj) -> Robj {
    guard(|| {
        let args = Args::new(&args);
        let (offsets, columns, values) = borrowed(&args)?;
        // A layout starts well from vectors that are merely smooth.
        let (density, tolerance) = match args.text("kind")?.as_str() {
            "diffusion" => {
                check_graph(offsets, columns, values)?;
                (Density::Removed, 1e-10)
            }
            "laplacian" => (Density::Kept, 1e-3),
            _ => return Err(wrong("kind", "is not known")),
        };
        let transitions = Transitions::new(offsets, columns, values, density)?;
        let n_comps = args.count("n_comps")?;
        let map = with_ctx(&ctx, |ctx| diffusion_map(&transitions, n_comps, tolerance, ctx))?;
        drop(transitions);
        Ok(named(vec![("values", map.values.into()), ("vectors", map.vectors.into())]))
    })
}

/// Diffusion pseudotime from the cell `root`, counted from one, by `values` and
/// `vectors` of diffusion components and the `component` of each cell.
/// @noRd
#[extendr]
fn rs_graph_pseudotime(args: Robj) -> Robj {
    guard(|| {
        let args = Args::new(&args);
        let map =
            DiffusionMap { values: args.numbers("values")?, vectors: args.numbers("vectors")? };
        let component: Vec<u32> = args.integers("component")?.iter().map(|&c| c as u32).collect();
        let root = args.count("root")?;
        if root == 0 || root > component.len() {
            return Err(wrong("root", "is no cell"));
        }
        if map.vectors.len() != map.values.len() * component.len() {
            return Err(wrong("vectors", "do not fit the cells"));
        }
        Ok(diffusion_pseudotime(&map, root - 1, &component))
    })
}

/// Connectivities of `args$n_groups` groups (`groups`: codes from zero) in a graph of
/// distances (`p`, `i`, `x` of its columns).
/// @noRd
#[extendr]
fn rs_graph_paga(args: Robj) -> Robj {
    guard(|| {
        let args = Args::new(&args);
        let distances = square(&args)?.transposed();
        let (groups, n_groups) = (args.codes("groups")?, args.count("n_groups")?);
        if groups.len() != distances.len() {
            return Err(wrong("groups", "do not fit the graph"));
        }
        if groups.iter().flatten().any(|&group| group as usize >= n_groups) {
            return Err(wrong("groups", "are more than there are"));
        }
        let found = paga(&distances, &groups, n_groups);
        let sizes: Vec<f64> = found.sizes.iter().map(|&size| size as f64).collect();
        Ok(named(vec![
            ("connectivities", found.connectivities.into()),
            ("tree", found.tree.into()),
            ("sizes", sizes.into()),
        ]))
    })
}

/// Labels of cells by those of their nearest neighbours among others.
///
/// `args`: `query` and `x` in columns with `n_query` and `n_obs` cells; `k`, `metric`;
/// `labels`, a list of codes from zero of the others, and `n_labels`; `by_distance`.
/// For each of the labels a list of `code`, from one on, and `share`.
/// @noRd
#[extendr]
fn rs_graph_transfer(args: Robj, ctx: Robj) -> Robj {
    guard(|| {
        let args = Args::new(&args);
        let n_obs = args.count("n_obs")?;
        let votes = if args.flag("by_distance")? { Votes::ByDistance } else { Votes::Equal };
        let found = with_ctx(&ctx, |ctx| nearest_in_reference(&args, ctx))?;
        let labels = args.inner("labels")?;
        let labels = labels.as_list().ok_or_else(|| wrong("labels", "must be a list"))?;
        let mut transferred = Vec::new();
        for (codes, &n_labels) in labels.values().zip(&args.numbers("n_labels")?) {
            let one = named(vec![("labels", codes)]);
            let codes = Args::new(&one).codes("labels")?;
            let n_labels = n_labels as usize;
            let known = codes.iter().flatten().all(|&code| (code as usize) < n_labels);
            if codes.len() != n_obs || !known {
                return Err(wrong("labels", "do not fit the cells"));
            }
            let won = vote(&found, &codes, n_labels, votes);
            // R's missing value.
            let code: Vec<i32> = won
                .iter()
                .map(|vote| vote.label.map_or(i32::MIN, |label| label as i32 + 1))
                .collect();
            let share: Vec<f64> = won.iter().map(|vote| vote.share).collect();
            transferred.push(named(vec![("code", code.into()), ("share", share.into())]));
        }
        Ok(Robj::from(List::from_values(transferred)))
    })
}

/// Places of cells in the layout of others, by their nearest neighbours among these.
///
/// `args`: `query`, `x`, `n_query`, `n_obs`, `k` and `metric` as of `rs_graph_transfer()`;
/// `layout` in columns and `n_dims`; `a` and `b`, or `min_dist` and `spread`; `n_epochs`
/// or `NULL`, `learning_rate`, `negative_samples`, `repulsion`, `seed`.
/// @noRd
#[extendr]
fn rs_graph_place(args: Robj, ctx: Robj) -> Robj {
    guard(|| {
        let args = Args::new(&args);
        let curve = match (args.number_opt("a")?, args.number_opt("b")?) {
            (Some(a), Some(b)) => Curve { a, b },
            _ => Curve::fitted(args.number("min_dist")?, args.number("spread")?),
        };
        let how = descent(&args, curve)?;
        let (layout, n_dims) = (args.doubles("layout")?, args.count("n_dims")?);
        if layout.len() != args.count("n_obs")? * n_dims {
            return Err(wrong("layout", "does not fit the cells"));
        }
        let placed = with_ctx(&ctx, |ctx| {
            let found = nearest_in_reference(&args, ctx)?;
            umap_place(&found, layout, n_dims, &how, ctx)
        })?;
        Ok(Robj::from(placed))
    })
}

/// UMAP of the neighbours in a matrix of distances (`p`, `i`, `x` of its columns): cells in
/// rows, or `NULL` where cells have different numbers of neighbours.
///
/// `args`: `start` in columns, which is spread, `n_dims`, `min_dist`, `spread`, `n_epochs` or `NULL`,
/// `learning_rate`, `negative_samples`, `repulsion`, `seed`.
/// @noRd
#[extendr]
fn rs_graph_umap(args: Robj, ctx: Robj) -> Robj {
    guard(|| {
        let args = Args::new(&args);
        let curve = Curve::fitted(args.number("min_dist")?, args.number("spread")?);
        let how = descent(&args, curve)?;
        let (start, n_dims) = (args.doubles("start")?, args.count("n_dims")?);
        let Stored { offsets, columns, values } = Stored::new(&args)?;
        let Some(neighbors) = Table::from_columns(&offsets, columns, values) else {
            return Ok(Robj::from(()));
        };
        drop(offsets);
        let layout = with_ctx(&ctx, |ctx| umap_layout(neighbors, start, n_dims, &how, ctx))?;
        Ok(layout.into())
    })
}

/// Communities of a symmetric graph (`p`, `i`, `x`), for each of `resolution` a list of `of`,
/// for each part the communities of its cells from one on, and, where all cells are one
/// part, their `modularity`.
///
/// `args`: `parts`, a list of ascending positions from one on, or `NULL` for all cells;
/// `objective`, `"modularity"` or `"CPM"`; `algorithm`, `"leiden"` or `"louvain"`, for the first of
/// which `n_iterations`, or `NULL` until stable, and `beta`; `seed`.
/// @noRd
#[extendr]
fn rs_graph_communities(args: Robj, ctx: Robj) -> Robj {
    guard(|| {
        let args = Args::new(&args);
        let method = method(&args)?;
        let objective = match args.text("objective")?.as_str() {
            "modularity" => Objective::Modularity,
            "CPM" => Objective::ConstantPotts,
            _ => return Err(wrong("objective", "is not known")),
        };
        let seed = args.count("seed")? as u64;
        let (offsets, columns, values) = borrowed(&args)?;
        let whole = Network::new(offsets, columns, values, objective)?;
        let parts = match args.get("parts") {
            None => None,
            Some(parts) => Some(positions(&parts, whole.len())?),
        };
        with_ctx(&ctx, |ctx| {
            let search =
                |graph: &Network, resolution| communities(graph, method, resolution, seed, ctx);
            let mut results = Vec::new();
            for resolution in args.numbers("resolution")? {
                let Some(parts) = &parts else {
                    let of = search(&whole, resolution)?;
                    let quality = modularity(&whole, &of);
                    let of = Robj::from(List::from_values([from_one(&of)]));
                    results.push(named(vec![("of", of), ("modularity", quality.into())]));
                    continue;
                };
                let mut found = Vec::new();
                for cells in parts {
                    found.push(from_one(&search(&whole.part(cells), resolution)?));
                }
                results.push(named(vec![("of", Robj::from(List::from_values(found)))]));
            }
            Ok(Robj::from(List::from_values(results)))
        })
    })
}

fn method(args: &Args) -> Result<Method> {
    match args.text("algorithm")?.as_str() {
        "leiden" => Ok(Method::Leiden {
            n_iterations: args
                .get("n_iterations")
                .map(|_| args.count("n_iterations"))
                .transpose()?,
            beta: args.number("beta")?,
        }),
        "louvain" => Ok(Method::Louvain),
        _ => Err(wrong("algorithm", "is not known")),
    }
}

/// Lists of positions from one on as positions from zero, below `n` and ascending.
fn positions(parts: &Robj, n: usize) -> Result<Vec<Vec<u32>>> {
    let bad = || wrong("parts", "must be ascending positions of cells");
    let parts = parts.as_list().ok_or_else(bad)?;
    parts
        .values()
        .map(|part| {
            let part = part.as_integer_slice().ok_or_else(bad)?;
            let within = part.iter().all(|&at| at >= 1 && at as usize <= n);
            let rising = part.windows(2).all(|pair| pair[0] < pair[1]);
            if !within || !rising {
                return Err(bad());
            }
            Ok(part.iter().map(|&at| at as u32 - 1).collect())
        })
        .collect()
}

fn from_one(of: &[u32]) -> Robj {
    of.iter().map(|&c| c as i32 + 1).collect_robj()
}

fn descent(args: &Args, curve: Curve) -> Result<Descent> {
    Ok(Descent {
        curve,
        n_epochs: args.get("n_epochs").map(|_| args.count("n_epochs")).transpose()?,
        learning_rate: args.number("learning_rate")?,
        negative_samples: args.count("negative_samples")?,
        repulsion: args.number("repulsion")?,
        seed: args.number("seed")? as i64 as u64,
    })
}

/// The nearest cells of a reference for each of a query.
fn nearest_in_reference(args: &Args, ctx: &Ctx) -> Result<Neighbors> {
    let (x, n_obs) = (args.doubles("x")?, args.count("n_obs")?);
    let (query, n_query) = (args.doubles("query")?, args.count("n_query")?);
    let k = args.count("k")?;
    if n_obs == 0 || x.len() % n_obs != 0 || query.len() * n_obs != x.len() * n_query {
        return Err(wrong("x", "does not fit the query"));
    }
    let metric =
        Metric::from_name(&args.text("metric")?).ok_or_else(|| wrong("metric", "is not known"))?;
    let needed = 8 * (x.len() + query.len()) as u64 + 12 * (n_query * k) as u64;
    ctx.check_budget(|| format!("finding {k} neighbours of {n_query} cells"), needed)?;
    let points = Points::from_columns(x, n_obs, metric)?;
    let queries = Points::from_columns(query, n_query, metric)?;
    nearest_among(&queries, &points, k, ctx)
}

fn nearest(args: &Args, ctx: &Ctx) -> Result<Neighbors> {
    let (x, n_obs, k) = (args.doubles("x")?, args.count("n_obs")?, args.count("k")?);
    if n_obs == 0 || x.len() % n_obs != 0 {
        return Err(wrong("x", "is no matrix of cells"));
    }
    let metric =
        Metric::from_name(&args.text("metric")?).ok_or_else(|| wrong("metric", "is not known"))?;
    let needed = 8 * x.len() as u64 + 12 * (n_obs as u64) * (k as u64);
    ctx.check_budget(|| format!("finding {k} neighbours of {n_obs} cells"), needed)?;
    let points = Points::from_columns(x, n_obs, metric)?;
    if args.get("candidates").is_none() {
        return exact_neighbors(&points, k, ctx);
    }
    let candidates = args.integers("candidates")?;
    if candidates.len() % n_obs != 0 {
        return Err(wrong("candidates", "is no matrix of cells"));
    }
    ranked_neighbors(&points, candidates, k, ctx)
}

fn kernel(args: &Args) -> Result<Kernel> {
    match args.text("kernel")?.as_str() {
        "umap" => Ok(Kernel::Umap),
        "gaussian" => Ok(Kernel::Gaussian),
        "snn" => Ok(Kernel::SharedNeighbors { prune: args.number("prune")? }),
        _ => Err(wrong("kernel", "is not known")),
    }
}

/// Cells in rows, as R keeps a matrix; positions from one on.
fn table(found: &Neighbors) -> Result<Robj> {
    let (n, k) = (found.len(), found.k);
    let mut index = vec![0_i32; n * k];
    let mut distance = vec![0.0; n * k];
    for i in 0..n {
        let (neighbors, distances) = found.of(i);
        for (at, (&j, &d)) in neighbors.iter().zip(distances).enumerate() {
            index[at * n + i] = position(j as usize)? + 1;
            distance[at * n + i] = d;
        }
    }
    Ok(named(vec![("index", index.into()), ("distance", distance.into())]))
}

/// Both directions of a graph joined, beside its distances.
fn union(distances: &ByColumns, found: Neighbors, local: &Local, ctx: &Ctx) -> Result<ByColumns> {
    let (cells, values) = distances.parts()?;
    let stored = ByNeighbor { offsets: &distances.offsets, cells, distances: values };
    let own = Positions::of(found);
    let offsets = stored.union_offsets(&own);
    let mut graph = ByColumns::with_rows(offsets, move |columns| {
        stored.union_columns(&own, columns);
    })?;
    let (offsets, columns, weights) = graph.room()?;
    stored.union_weights(local, offsets, columns, weights, ctx)?;
    if weights.contains(&0.0) {
        return ByColumns::of(&without_zeros(offsets, columns, weights));
    }
    Ok(graph)
}

/// R's matrix of sorted columns, whose parts are filled where they stay.
struct ByColumns {
    offsets: Vec<usize>,
    rows: Robj,
    values: Robj,
}

impl ByColumns {
    fn with_room(offsets: Vec<usize>) -> Result<Self> {
        Self::with_rows(offsets, |_| ())
    }

    /// Has `write` write the rows before there is room for values: it is zeroed, which takes
    /// memory at once, and what `write` holds is let go first.
    fn with_rows(offsets: Vec<usize>, write: impl FnOnce(&mut [i32])) -> Result<Self> {
        let len = offsets.last().copied().unwrap_or(0);
        position(len)?;
        let mut rows = Integers::new(len).into_robj();
        write(rows.as_integer_slice_mut().ok_or_else(no_room)?);
        Ok(ByColumns { offsets, rows, values: Doubles::new(len).into_robj() })
    }

    /// The matrix whose columns are the rows of `matrix`.
    fn of(matrix: &Sparse) -> Result<Self> {
        let mut stored = ByColumns::with_room(matrix.offsets.clone())?;
        let (_, rows, values) = stored.room()?;
        for (row, &j) in rows.iter_mut().zip(&matrix.columns) {
            *row = j as i32;
        }
        values.copy_from_slice(&matrix.values);
        Ok(stored)
    }

    /// Offsets, rows and values.
    fn room(&mut self) -> Result<(&[usize], &mut [i32], &mut [f64])> {
        let rows = self.rows.as_integer_slice_mut().ok_or_else(no_room)?;
        Ok((&self.offsets, rows, self.values.as_real_slice_mut().ok_or_else(no_room)?))
    }

    /// Rows and values.
    fn parts(&self) -> Result<(&[i32], &[f64])> {
        let rows = self.rows.as_integer_slice().ok_or_else(no_room)?;
        Ok((rows, self.values.as_real_slice().ok_or_else(no_room)?))
    }

    fn into_robj(self) -> Robj {
        let p = self.offsets.iter().map(|&at| at as i32).collect_robj();
        named(vec![("p", p), ("i", self.rows), ("x", self.values)])
    }
}

fn no_room() -> Error {
    wrong("x", "has a graph that can't be stored")
}

fn position(at: usize) -> Result<i32> {
    i32::try_from(at).map_err(|_| Error::TooLarge {
        message: "the graph has more than 2^31 - 1 edges, which R's sparse matrices can't hold"
            .into(),
    })
}

/// The parts of R's square matrix (`p`, `i`, `x`) where they are: offsets, rows and values of its
/// columns.
fn borrowed<'r>(args: &Args<'r>) -> Result<(&'r [u32], &'r [u32], &'r [f64])> {
    let (p, i, values) = (args.integers("p")?, args.integers("i")?, args.doubles("x")?);
    let bad = || wrong("p", "is no square sparse matrix");
    let offsets = unsigned(p).ok_or_else(bad)?;
    let n = offsets.len().checked_sub(1).ok_or_else(bad)?;
    let rising = offsets.windows(2).all(|pair| pair[0] <= pair[1]);
    if offsets[0] != 0 || !rising || offsets[n] as usize != i.len() || i.len() != values.len() {
        return Err(bad());
    }
    let rows = unsigned(i).filter(|i| i.iter().all(|&j| (j as usize) < n)).ok_or_else(bad)?;
    let sorted = |column: &[u32]| {
        rows[column[0] as usize..column[1] as usize].windows(2).all(|pair| pair[0] < pair[1])
    };
    if !offsets.windows(2).all(sorted) {
        return Err(bad());
    }
    Ok((offsets, rows, values))
}

/// R's matrix (`p`, `i`, `x`), with its columns as rows, where it is.
struct Stored<'r> {
    offsets: Vec<usize>,
    columns: &'r [u32],
    values: &'r [f64],
}

impl<'r> Stored<'r> {
    fn new(args: &Args<'r>) -> Result<Self> {
        let (offsets, columns, values) = borrowed(args)?;
        let offsets = offsets.iter().map(|&at| at as usize).collect();
        Ok(Stored { offsets, columns, values })
    }
}

/// A matrix whose rows are the columns of R's (`p`, `i`, `x`).
fn square(args: &Args) -> Result<Sparse> {
    let Stored { offsets, columns, values } = Stored::new(args)?;
    Ok(Sparse { offsets, columns: columns.to_vec(), values: values.to_vec() })
}

extendr_module! {
    mod graph;
    fn rs_graph_neighbors;
    fn rs_graph_nearest;
    fn rs_graph_table;
    fn rs_graph_components;
    fn rs_graph_diffusion;
    fn rs_graph_pseudotime;
    fn rs_graph_paga;
    fn rs_graph_transfer;
    fn rs_graph_place;
    fn rs_graph_umap;
    fn rs_graph_communities;
}
