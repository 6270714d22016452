"""Pearson residuals, regression and ComBat by scanpy, and ComBat by sva.

    python tests/fixtures-src/reference_adjusted.py

Needs Rscript with the package sva. Values are those of some cells and genes; totals are
over all cells. Counts are float64 before anything is computed. Genes that few cells have are
left out, so that the dense matrices of scanpy stay small.
"""

import subprocess
import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
import scanpy as sc
from reference_io import DATA, Reference

SVA = """
suppressMessages(library(sva))
dir <- commandArgs(TRUE)
shape <- scan(file.path(dir, "shape"), quiet = TRUE)
x <- matrix(readBin(file.path(dir, "x"), "double", prod(shape)), shape[1])
obs <- read.csv(file.path(dir, "obs"), stringsAsFactors = TRUE)
plain <- suppressMessages(ComBat(x, obs$donor))
kept <- suppressMessages(ComBat(x, obs$donor, model.matrix(~ condition, obs)))
writeBin(c(plain, kept), file.path(dir, "out"))
writeLines(as.character(packageVersion("sva")), file.path(dir, "version"))
"""


def read(file):
    a = ad.read_h5ad(DATA / "counts" / f"{file}.h5ad")
    a.var_names_make_unique()
    a.X = a.X.astype(np.float64)
    a.obs["depth"] = np.asarray(a.X.sum(axis=1)).ravel()
    mt = a.var_names.str.startswith("MT-")
    a.obs["mt"] = np.asarray(a.X[:, mt].sum(axis=1)).ravel() / a.obs["depth"]
    return a


def dense(a):
    return a.X.toarray() if hasattr(a.X, "toarray") else np.asarray(a.X)


def sample(ref, a, seed):
    rng = np.random.default_rng(seed)
    cells = np.sort(rng.choice(a.n_obs, 60, replace=False))
    genes = np.sort(rng.choice(a.n_vars, 60, replace=False))
    ref.names("cells", a.obs_names[cells])
    ref.names("genes", a.var_names[genes])
    ref.value("n_genes", int(a.n_vars))
    return cells, genes


def put(ref, table, values, cells, genes):
    heads = [f"cell{i + 1}" for i in range(len(cells))]
    ref.table(table, dict(zip(heads, values[cells][:, genes])), rows="genes")


def logs(a):
    a = a.copy()
    sc.pp.normalize_total(a, target_sum=1e4)
    sc.pp.log1p(a)
    return a


def pbmc3k():
    a = read("pbmc3k_raw")
    sc.pp.filter_genes(a, min_cells=100)
    ref = Reference("adjusted-pbmc3k", ["scanpy", "numpy"])
    ref.value("min_cells", 100)
    cells, genes = sample(ref, a, 1)
    b = a.copy()
    sc.experimental.pp.normalize_pearson_residuals(b)
    put(ref, "residuals", dense(b), cells, genes)
    b = a.copy()
    sc.experimental.pp.normalize_pearson_residuals(b, theta=10, clip=3)
    put(ref, "residuals_10_3", dense(b), cells, genes)
    b = logs(a)
    sc.pp.regress_out(b, ["depth", "mt"], n_jobs=1)
    put(ref, "regressed", dense(b), cells, genes)
    ref.write()


def kang():
    a = read("kang2018_pbmc_ifnb_2000cells")
    a = a[a.obs["donor"].notna()].copy()
    sc.pp.filter_genes(a, min_cells=400)
    ref = Reference("adjusted-kang2018", ["scanpy", "numpy"])
    ref.value("min_cells", 400)
    cells, genes = sample(ref, a, 2)
    b = logs(a)
    log = dense(b)
    d = b.copy()
    d.X = log.copy()
    sc.pp.regress_out(d, "donor", n_jobs=1)
    put(ref, "regressed", dense(d), cells, genes)
    d = b.copy()
    d.X = log.copy()
    put(ref, "combat", sc.pp.combat(d, "donor", inplace=False), cells, genes)
    d.obs["stimulated"] = (d.obs["condition"] == d.obs["condition"].cat.categories[1]) * 1.0
    put(
        ref,
        "combat_stimulated",
        sc.pp.combat(d, "donor", covariates=["stimulated"], inplace=False),
        cells,
        genes,
    )
    with tempfile.TemporaryDirectory() as dir:
        dir = Path(dir)
        # R's matrix of genes by cells, columns one after the other.
        (dir / "x").write_bytes(np.ascontiguousarray(log).tobytes())
        (dir / "shape").write_text(f"{log.shape[1]} {log.shape[0]}")
        b.obs[["donor", "condition"]].to_csv(dir / "obs", index=False)
        (dir / "sva.R").write_text(SVA)
        subprocess.run(["Rscript", str(dir / "sva.R"), str(dir)], check=True)
        out = np.fromfile(dir / "out").reshape(2, *log.shape)
        ref.value("sva", (dir / "version").read_text().strip())
    put(ref, "sva", out[0], cells, genes)
    put(ref, "sva_condition", out[1], cells, genes)
    ref.write()


if __name__ == "__main__":
    pbmc3k()
    kang()
