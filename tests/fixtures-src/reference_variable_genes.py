"""Reference results for variable genes: all flavours, with batches and without.

    python tests/fixtures-src/reference_variable_genes.py

Everything is float64, whatever the file stores; log data is
`log1p((x * 1e4) / total)`. `pbmc3k` has the 13,714 genes seen in at least 3 of all
2,700 cells and the batches of scanpy's own test, 500 cells each; `kang` all 9,015 genes
of the 1,971 cells with a donor, and conditions, donors and samples as batches; the
smaller ones are too small for the loess of scikit-misc, which fails. Sets are of all genes,
numbers of every tenth.

Ties: scanpy ranks genes within batches by numpy's default sort, which leaves ties in an
order that depends on the processor. Here it is stable, so that ties go by the order of
genes; how much that changes is written beside the tables.
"""

import warnings
from unittest import mock

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp

from reference_io import DATA, Reference

warnings.filterwarnings("ignore")
sc.settings.verbosity = 0

EVERY = 10
unstable = np.argsort


def stable(a, axis=-1):
    return unstable(a, axis=axis, kind="stable")


def logs(counts):
    total = counts.sum(axis=1)
    return np.log1p((counts * 1e4) / total[:, None])


def select(a, flavor, n_top, batch, sort):
    with mock.patch("numpy.argsort", sort):
        if flavor == "pearson_residuals":
            return sc.experimental.pp.highly_variable_genes(
                a, flavor=flavor, n_top_genes=n_top, batch_key=batch, inplace=False
            )
        return sc.pp.highly_variable_genes(
            a, flavor=flavor, n_top_genes=n_top, batch_key=batch, inplace=False
        )


def run(ref, name, counts, obs, genes, n_top, batches):
    raw = ad.AnnData(sp.csr_matrix(counts), obs, pd.DataFrame(index=genes))
    log = ad.AnnData(sp.csr_matrix(logs(counts)), obs, pd.DataFrame(index=genes))
    log.uns["log1p"] = {"base": None}
    some = np.arange(0, len(genes), EVERY)
    sets, changed = {}, {}
    for flavor in ["seurat", "cell_ranger", "seurat_v3", "seurat_v3_paper", "pearson_residuals"]:
        dispersion = flavor in ("seurat", "cell_ranger")
        a = log if dispersion else raw
        for batch in [None, *batches]:
            where = f"{flavor}_{batch or 'all'}"
            try:
                top = select(a, flavor, n_top, batch, stable)
            except Exception as error:
                print(name, where, "fails:", repr(error))
                continue
            sets[where] = top["highly_variable"].to_numpy()
            if dispersion:
                # By name until put into a.var, where there are batches.
                cut = select(a, flavor, None, batch, stable).loc[genes]
                sets[f"{where}_bounds"] = cut["highly_variable"].to_numpy()
            elif batch is not None:
                other = select(a, flavor, n_top, batch, unstable)["highly_variable"]
                changed[where] = int((other & ~top["highly_variable"]).sum())
            numbers = top.drop(columns=["highly_variable", "mean_bin", "gene_name"], errors="ignore")
            ref.table(
                f"{name}_{where}",
                {c: numbers[c].to_numpy(dtype=np.float64)[some] for c in numbers},
            )
    ref.table(f"{name}_sets", sets, rows=f"{name}_genes")
    ref.value(f"{name}_changed_by_unstable_sort", changed)
    print(name, {k: int(v.sum()) for k, v in sets.items()}, changed)


def main():
    ref = Reference(
        "variable_genes", ["scanpy", "anndata", "numpy", "scipy", "pandas", "scikit-misc"]
    )
    ref.value("n_top", 2000)
    ref.value("every", EVERY)

    a = ad.read_h5ad(DATA / "counts" / "pbmc3k_raw.h5ad")
    counts = a.X.toarray().astype(np.float64)
    seen = (counts > 0).sum(axis=0) >= 3
    source = np.minimum(np.arange(a.n_obs) // 500 + 1, 5)
    obs = pd.DataFrame({"source": pd.Categorical([f"source_{k}" for k in source])})
    obs.index = [str(i) for i in range(a.n_obs)]
    genes = a.var_names[seen]
    ref.names("pbmc3k_genes", genes)
    run(ref, "pbmc3k", counts[:, seen], obs, genes, 2000, ["source"])

    a = ad.read_h5ad(DATA / "counts" / "kang2018_pbmc_ifnb_2000cells.h5ad")
    a = a[a.obs["donor"].notna()].copy()
    obs = a.obs[["condition", "donor", "sample_id"]].copy()
    for column in obs:
        obs[column] = obs[column].cat.remove_unused_categories()
    obs.index = [str(i) for i in range(a.n_obs)]
    ref.names("kang_genes", a.var_names)
    counts = a.X.toarray().astype(np.float64)
    run(ref, "kang", counts, obs, a.var_names, 2000, ["condition", "donor", "sample_id"])
    ref.write()


if __name__ == "__main__":
    main()
