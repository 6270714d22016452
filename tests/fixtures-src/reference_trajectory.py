"""Reference results on the graphs of pbmc3k and kang2018: connectivities, diffusion maps,
pseudotime, PAGA, and Leiden between seeds.

    python tests/fixtures-src/reference_trajectory.py

Components are LAPACK's, as in reference_graph.py; what follows is scanpy's.
"""

import warnings

import anndata as ad
import numpy as np
import scanpy as sc

from reference_graph import SEEDS, between_seeds, components, weighted_modularity
from reference_io import DATA, Reference

warnings.filterwarnings("ignore")
SETS = {
    "pbmc3k": ("pbmc3k_raw.h5ad", "louvain"),
    "kang2018": ("kang2018_pbmc_ifnb_2000cells.h5ad", "seurat_annotations"),
}


def results(ref, name, file, groups):
    raw = ad.read_h5ad(DATA / "counts" / file)
    raw = raw[raw.obs[groups].notna()].copy()
    a = ad.AnnData(obs=raw.obs[[groups]], obsm={"X_pca": components(raw)})
    sc.pp.neighbors(a, use_rep="X_pca", n_neighbors=15, method="gauss")
    degree = lambda key: np.asarray(a.obsp[key].sum(axis=1)).ravel()
    degrees = {"gaussian": degree("connectivities")}
    sc.pp.neighbors(a, use_rep="X_pca", n_neighbors=15)
    degrees |= {"umap": degree("connectivities"), "distances": degree("distances")}
    ref.table(f"{name}_degrees", degrees)

    sc.tl.diffmap(a, n_comps=10)
    a.uns["iroot"] = 0
    sc.tl.dpt(a, n_dcs=10)
    ref.table(f"{name}_diffmap_evals", {"value": a.uns["diffmap_evals"]})
    cells = {f"DC{k}": a.obsm["X_diffmap"][:, k] for k in range(1, 4)}
    cells["pseudotime"] = a.obs["dpt_pseudotime"]
    ref.table(f"{name}_cells", cells, dtype="float32")

    sc.tl.paga(a, groups=groups)
    dense = a.uns["paga"]["connectivities"].toarray()
    ref.table(f"{name}_paga", {f"c{k}": dense[:, k] for k in range(len(dense))})

    labels, modularity = {}, []
    for seed in SEEDS:
        sc.tl.leiden(
            a, 0.5, random_state=seed, flavor="igraph", n_iterations=2, directed=False
        )
        labels[f"seed{seed}"] = a.obs["leiden"].astype(int)
        modularity.append(weighted_modularity(a.obsp["connectivities"], a.obs["leiden"]))
    ref.table(f"{name}_leiden", labels, dtype="float32")
    ref.value(
        name,
        {
            "groups": list(a.obs[groups].cat.categories),
            "leiden_modularity": modularity,
            "leiden_seed_to_seed_mean": float(np.mean(between_seeds(labels))),
        },
    )
    print(name, ref.index[name])


def main():
    ref = Reference("trajectory", ["scanpy", "igraph", "scipy", "numpy"])
    for name, (file, groups) in SETS.items():
        results(ref, name, file, groups)
    ref.write()


if __name__ == "__main__":
    main()
