"""Pseudobulk sums by plain numpy on the Kang 2018 counts and the muscat subset.

    python tests/fixtures-src/reference_pseudobulk.py

Groups are the combinations of the keys that occur, in the order of the factor
levels, the first key slowest; cells with a missing key are left out.
"""

import anndata as ad
import numpy as np

from reference_io import DATA, Reference

SETS = {
    "kang2018": (
        "kang2018_pbmc_ifnb_2000cells",
        ["donor", "condition", "seurat_annotations"],
    ),
    "muscat": ("muscat_example_sce_kang_subset", ["sample_id", "cluster_id"]),
}


def pseudobulk(name, file, keys):
    a = ad.read_h5ad(DATA / "counts" / f"{file}.h5ad")
    ref = Reference(f"pseudobulk-{name}", ["anndata", "numpy"])
    x = a.X.toarray().astype(np.float64)
    used = a.obs[keys].notna().all(axis=1).to_numpy()
    codes = np.column_stack([a.obs[k].cat.codes for k in keys])
    groups = np.unique(codes[used], axis=0)
    members = [used & (codes == g).all(axis=1) for g in groups]
    sums = np.array([x[m].sum(axis=0) for m in members])
    detected = np.array([(x[m] > 0).sum(axis=0) for m in members])
    n_cells = np.array([m.sum() for m in members])
    weights = np.arange(1, x.shape[1] + 1)

    ref.value("keys", keys)
    ref.value("n_dropped", int((~used).sum()))
    ref.value("levels", {k: list(a.obs[k].cat.categories) for k in keys})
    columns = {f"code_{k}": groups[:, i] + 1 for i, k in enumerate(keys)}
    ref.table(
        "groups",
        {
            **columns,
            "n_cells": n_cells,
            "sum": sums.sum(axis=1),
            "sum_squares": (sums**2).sum(axis=1),
            "weighted_sum": (sums * weights).sum(axis=1),
            "detected": detected.sum(axis=1),
        },
    )
    sampled = np.sort(np.random.default_rng(3).choice(x.shape[1], 300, replace=False))
    ref.names("genes", a.var_names[sampled])
    heads = [f"group{i + 1}" for i in range(len(groups))]
    ref.table("sums", dict(zip(heads, sums[:, sampled])), rows="genes", dtype="float32")
    ref.table(
        "detected", dict(zip(heads, detected[:, sampled])), rows="genes", dtype="float32"
    )
    assert sums.max() < 2**24
    ref.write()
    print(name, len(groups), "groups,", int((~used).sum()), "cells dropped")


for name, (file, keys) in SETS.items():
    pseudobulk(name, file, keys)
