"""Reference results on the graph of neighbours: connectivities, clusters, UMAP,
diffusion maps, pseudotime, PAGA.

    python tests/fixtures-src/reference_graph.py

Two embeddings. `pbmc68k_reduced`: the 50 published components of 700 cells, on which
everything deterministic is compared cell by cell. `pbmc3k`: LAPACK's components as in
reference_pbmc3k.py, for what is stochastic.
"""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import scipy.linalg
from sklearn.manifold import trustworthiness
from sklearn.metrics import adjusted_rand_score

from reference_io import DATA, Reference
from reference_pbmc3k import variable_genes

warnings.filterwarnings("ignore")
SEEDS = range(10)


class Silent:
    """Takes tables that another set keeps."""

    def table(self, *args, **kwargs):
        pass


def sparse_table(ref, name, matrix, dtype="float64"):
    m = matrix.tocoo()
    ref.table(name, {"row": m.row, "column": m.col, "value": m.data}, dtype=dtype)


def pbmc68k(ref):
    a = ad.read_h5ad(DATA / "h5ad_fixtures" / "scanpy_10x_pbmc68k_reduced.h5ad")
    x = a.obsm["X_pca"].astype(np.float64)
    a = ad.AnnData(obs=a.obs[["bulk_labels", "louvain"]], obsm={"X_pca": x})
    sc.pp.neighbors(a, use_rep="X_pca", n_neighbors=15, method="gauss")
    sparse_table(ref, "gaussian", a.obsp["connectivities"])
    sc.pp.neighbors(a, use_rep="X_pca", n_neighbors=10, metric="cosine")
    sparse_table(ref, "cosine_distances", a.obsp["distances"])
    sc.pp.neighbors(a, use_rep="X_pca", n_neighbors=15)
    sparse_table(ref, "distances", a.obsp["distances"])
    sparse_table(ref, "umap", a.obsp["connectivities"], dtype="float32")

    sc.tl.diffmap(a, n_comps=15)
    a.uns["iroot"] = 42
    sc.tl.dpt(a, n_dcs=10)
    ref.table("diffmap_evals", {"value": a.uns["diffmap_evals"]})
    vectors = a.obsm["X_diffmap"]
    ref.table("diffmap", {f"DC{k}": vectors[:, k] for k in range(15)}, dtype="float32")
    ref.table("pseudotime", {"value": a.obs["dpt_pseudotime"]}, dtype="float32")
    ref.value("root", 42)

    sc.tl.paga(a, groups="bulk_labels")
    dense = a.uns["paga"]["connectivities"].toarray()
    tree = a.uns["paga"]["connectivities_tree"].toarray()
    columns = {f"c{k}": dense[:, k] for k in range(len(dense))}
    columns |= {f"t{k}": (tree + tree.T)[:, k] for k in range(len(dense))}
    ref.table("paga", columns)
    ref.value("paga_groups", list(a.obs["bulk_labels"].cat.categories))


def components(raw):
    seen = np.asarray((raw.X > 0).sum(axis=0)).ravel() >= 3
    counts = raw.X[:, seen].toarray().astype(np.float64)
    logs = np.log1p((counts * 1e4) / counts.sum(axis=1, keepdims=True))
    chosen = variable_genes(Silent(), logs, raw.var_names[seen])
    z = logs[:, chosen]
    z = np.clip((z - z.mean(axis=0)) / z.std(axis=0, ddof=1), -10, 10)
    u, d, _ = scipy.linalg.svd(z - z.mean(axis=0), full_matrices=False)
    return u[:, :50] * d[:50]


def pbmc3k(ref):
    raw = ad.read_h5ad(DATA / "counts" / "pbmc3k_raw.h5ad")
    a = ad.AnnData(obs=raw.obs[["louvain"]], obsm={"X_pca": components(raw)})
    sc.pp.neighbors(a, use_rep="X_pca", n_neighbors=15)
    labelled = a.obs["louvain"].notna()
    labels, published, modularity = {}, [], []
    for seed in SEEDS:
        sc.tl.leiden(
            a, 0.5, random_state=seed, flavor="igraph", n_iterations=2, directed=False
        )
        labels[f"seed{seed}"] = a.obs["leiden"].astype(int)
        modularity.append(weighted_modularity(a.obsp["connectivities"], a.obs["leiden"]))
        known, found = a.obs["louvain"][labelled], a.obs["leiden"][labelled]
        published.append(adjusted_rand_score(known, found))
    ref.table("leiden", labels, dtype="float32")
    between = between_seeds(labels)
    by_leidenalg = leidenalg(ref, a)
    ref.value(
        "pbmc3k",
        {
            "leiden_modularity": modularity,
            "leiden_against_published": published,
            "leiden_seed_to_seed_mean": float(np.mean(between)),
            "leiden_seed_to_seed_min": float(np.min(between)),
            "umap_trustworthiness": umap_trustworthiness(a),
        }
        | by_leidenalg,
    )
    print(ref.index["pbmc3k"])


def umap_trustworthiness(a):
    trust = []
    for seed in [0, 1, 2]:
        sc.tl.umap(a, random_state=seed)
        x, y = a.obsm["X_pca"], a.obsm["X_umap"]
        trust.append(trustworthiness(x, y, n_neighbors=15))
    return trust


def kang2018(ref):
    """Donors and conditions side by side, scanpy's own steps to 30 components."""
    a = ad.read_h5ad(DATA / "counts" / "kang2018_pbmc_ifnb_2000cells.h5ad")
    a = a[a.obs["donor"].notna()].copy()
    sc.pp.filter_genes(a, min_cells=3)
    sc.pp.normalize_total(a, target_sum=1e4)
    sc.pp.log1p(a)
    sc.pp.highly_variable_genes(a, n_top_genes=2000)
    a = a[:, a.var["highly_variable"]].copy()
    sc.pp.scale(a, max_value=10)
    sc.pp.pca(a, n_comps=30)
    sc.pp.neighbors(a, use_rep="X_pca", n_neighbors=15)
    ref.value("kang2018", {"umap_trustworthiness": umap_trustworthiness(a)})


def between_seeds(labels):
    return [
        adjusted_rand_score(labels[f"seed{i}"], labels[f"seed{j}"])
        for i in SEEDS
        for j in SEEDS
        if i < j
    ]


def leidenalg(ref, a):
    """scanpy's default flavour, which iterates until nothing improves."""
    labels, modularity = {}, []
    for seed in SEEDS:
        sc.tl.leiden(a, 0.5, random_state=seed, flavor="leidenalg", n_iterations=-1)
        labels[f"seed{seed}"] = a.obs["leiden"].astype(int)
        modularity.append(weighted_modularity(a.obsp["connectivities"], a.obs["leiden"]))
    ref.table("leidenalg", labels, dtype="float32")
    return {
        "leidenalg_modularity": modularity,
        "leidenalg_seed_to_seed_mean": float(np.mean(between_seeds(labels))),
    }


def weighted_modularity(graph, labels):
    """At resolution 1."""
    codes = pd.Categorical(labels).codes
    total = graph.sum()
    degree = np.asarray(graph.sum(axis=1)).ravel()
    m = graph.tocoo()
    inside = m.data[codes[m.row] == codes[m.col]].sum() / total
    return float(inside - ((np.bincount(codes, degree) / total) ** 2).sum())


def main():
    ref = Reference("graph", ["scanpy", "umap-learn", "igraph", "leidenalg", "scikit-learn", "scipy", "numpy"])
    pbmc68k(ref)
    pbmc3k(ref)
    kang2018(ref)
    ref.write()


if __name__ == "__main__":
    main()
