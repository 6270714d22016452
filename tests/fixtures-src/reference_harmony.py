"""Reference results of Harmony.

    python tests/fixtures-src/reference_harmony.py

On the first ten of the 50 published components of 700 cells, with the cell cycle phase as
batch, and with the phase and a second variable. Random choices are taken out: centres come
from one k-means, which is stored, and cells are updated in their order.

harmonypy divides a cell by its largest coordinate before it normalises it, and so turns
cells round whose coordinates are all negative. Such cells are left out.
"""

import logging

import anndata as ad
import harmonypy
import numpy as np
from sklearn.cluster import KMeans

from reference_io import DATA, Reference

logging.getLogger("harmonypy").setLevel(logging.ERROR)


def harmony(ref):
    a = ad.read_h5ad(DATA / "h5ad_fixtures" / "scanpy_10x_pbmc68k_reduced.h5ad")
    a = a[a.obsm["X_pca"][:, :10].max(axis=1) > 0]
    x = a.obsm["X_pca"][:, :10].astype(np.float64)
    meta = a.obs[["phase"]].astype(str)
    meta["third"] = [f"t{i % 3}" for i in range(len(meta))]
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    model = KMeans(n_clusters=12, n_init=3, random_state=0).fit(unit)
    centers = model.cluster_centers_
    ref.table("centers", {f"d{j}": centers[:, j] for j in range(10)})
    np.random.shuffle = lambda order: None
    cases = {
        "phase": dict(vars_use=["phase"], theta=2, lamb=1, max_iter_harmony=4),
        "both": dict(vars_use=["phase", "third"], theta=[2, 0.5], lamb=[1, 3], tau=5),
    }
    for name, arguments in cases.items():
        found = harmonypy.run_harmony(
            x,
            meta,
            nclust=12,
            verbose=False,
            cluster_fn=lambda data, k: centers.copy(),
            **arguments,
        )
        z = found.Z_corr.T
        ref.table(f"aligned_{name}", {f"d{j}": z[:, j] for j in range(10)}, dtype="float32")
        ref.table(f"objective_{name}", {"value": found.objective_harmony})
        ref.value(f"rounds_{name}", [int(r) + 1 for r in found.kmeans_rounds])


def main():
    ref = Reference("harmony", ["harmonypy", "scikit-learn", "numpy"])
    harmony(ref)
    ref.write()


if __name__ == "__main__":
    main()
