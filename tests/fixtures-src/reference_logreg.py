"""Reference coefficients of logistic regressions on pbmc3k, by scikit-learn.

    python tests/fixtures-src/reference_logreg.py

The objective of `LogisticRegression(C=1)`, as scanpy's `method="logreg"` has it, run
to convergence: solver newton-cg with a tolerance of 1e-10 on every component of the
gradient of the mean loss. (lbfgs, the default, ends where the objective ceases to
change: with the same tolerance after 2,693 iterations, up to 2e-4 from these
coefficients. The 100 iterations that scanpy leaves it end 0.38 from them.) Log data is `log1p((x * 1e4) / total)`, totals over the 13,714 genes seen in
at least 3 of all 2,700 cells; the regression takes every tenth of these genes.

`scanpy_*` are the tables of `rank_genes_groups(method="logreg")` itself, which hands solver
and tolerance on: two listed groups, three, and one against a reference. Of two groups it
files the only vector of coefficients, which speaks for the later in the order of
categories, under the one that is listed first.
"""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression

from reference_io import DATA, Reference

warnings.filterwarnings("ignore", category=FutureWarning)


def fit(x, codes):
    model = LogisticRegression(solver="newton-cg", tol=1e-10, max_iter=10_000)
    model.fit(x, codes)
    w, b = model.coef_, model.intercept_
    score = x @ w.T + b
    if len(w) == 1:
        residual = 1 / (1 + np.exp(-score)) - codes[:, None]
    else:
        p = np.exp(score - score.max(axis=1, keepdims=True))
        residual = p / p.sum(axis=1, keepdims=True) - np.eye(len(w))[codes]
    gradient = np.linalg.norm(x.T @ residual + w.T)
    print(w.shape, "norm of the gradient:", gradient)
    # The penalty makes this a bound on the distance to the exact coefficients.
    assert gradient < 1e-6
    return w


def main():
    raw = ad.read_h5ad(DATA / "counts" / "pbmc3k_raw.h5ad")
    seen = np.asarray((raw.X > 0).sum(axis=0)).ravel() >= 3
    assert seen.sum() == 13714
    counts = raw.X[:, seen].toarray().astype(np.float64)
    logs = np.log1p((counts * 1e4) / counts.sum(axis=1, keepdims=True))
    labelled = raw.obs["louvain"].notna().to_numpy()
    labels = raw.obs["louvain"][labelled].cat.remove_unused_categories()
    groups = list(labels.cat.categories)
    x = sp.csr_matrix(logs[labelled][:, ::10])
    codes = labels.cat.codes.to_numpy().astype(int)

    ref = Reference("logreg", ["scikit-learn", "scanpy", "anndata", "numpy", "scipy"])
    ref.names("groups", groups)
    w = fit(x, codes)
    ref.table("rest", {group: w[k] for k, group in enumerate(groups)})
    pair = [groups.index("NK cells"), groups.index("CD8 T cells")]
    inside = np.isin(codes, pair)
    w = fit(x[inside], (codes[inside] == pair[0]).astype(int))
    ref.table("pair", {"NK cells against CD8 T cells": w[0]})
    a = ad.AnnData(x, pd.DataFrame({"louvain": labels.to_numpy()}, raw.obs_names[labelled]))
    a.obs["louvain"] = pd.Categorical(a.obs["louvain"], categories=groups)
    nk, cd8, b = "NK cells", "CD8 T cells", "B cells"
    for name, options in {
        "scanpy_two": {"groups": [cd8, nk]},
        "scanpy_two_turned": {"groups": [nk, cd8]},
        "scanpy_three": {"groups": [nk, cd8, b]},
        "scanpy_reference": {"groups": [b], "reference": nk},
        "scanpy_reference_turned": {"groups": [nk], "reference": b},
    }.items():
        sc.tl.rank_genes_groups(
            a,
            "louvain",
            method="logreg",
            n_genes=a.n_vars,
            solver="newton-cg",
            tol=1e-10,
            max_iter=10_000,
            **options,
        )
        r = a.uns["rank_genes_groups"]
        filed = list(r["names"].dtype.names)
        print(name, "is filed under", filed)
        ref.value(f"{name}_groups", filed)
        # Scores by gene: scanpy keeps them as float32.
        table = {}
        for group in filed:
            scores = pd.Series(r["scores"][group], r["names"][group])
            table[group] = scores[a.var_names].to_numpy()
        ref.table(name, table, dtype="float32")
    ref.value("genes", "every tenth of the 13,714, from the first")
    ref.write()


if __name__ == "__main__":
    main()
