"""rank_genes_groups() with raw, layers, listed groups and a reference, on the 700
cells of pbmc68k_reduced whose every 20th label is taken away."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp

from reference_io import DATA, Reference

RANKS = 200


def read():
    a = ad.read_h5ad(DATA / "h5ad_fixtures" / "scanpy_10x_pbmc68k_reduced.h5ad")
    raw = sp.csr_matrix(a.raw.X, dtype=np.float64)
    labels = a.obs["bulk_labels"].copy()
    labels.iloc[::20] = np.nan
    obs = pd.DataFrame({"label": labels}, index=a.obs_names)
    b = ad.AnnData(raw[:, :500].copy(), obs, pd.DataFrame(index=a.raw.var_names[:500]))
    b.raw = ad.AnnData(raw, obs, pd.DataFrame(index=a.raw.var_names))
    b.layers["half"] = b.X * 0.5
    b.uns["log1p"] = {"base": None}
    return b


def main():
    warnings.simplefilter("ignore")
    a = read()
    genes = pd.Index(a.raw.var_names)
    groups = list(a.obs["label"].cat.categories)
    ref = Reference("markers", ["scanpy", "anndata", "numpy", "scipy"])
    chosen = ["CD14+ Monocyte", "CD19+ B", "CD34+"]
    against = {"groups": chosen, "reference": "CD56+ NK"}
    runs = {
        "raw_rest_t": {"method": "t-test", "use_raw": True, "groups": chosen},
        "raw_rest_wilcoxon": {"method": "wilcoxon", "use_raw": True, "groups": chosen},
        "raw_reference_t": {"method": "t-test", "use_raw": True, **against},
        "raw_reference_overestim": {
            "method": "t-test_overestim_var",
            "use_raw": True,
            **against,
        },
        "raw_reference_wilcoxon": {
            "method": "wilcoxon",
            "use_raw": True,
            "tie_correct": True,
            **against,
        },
        "layer_t": {"method": "t-test", "layer": "half", "use_raw": False},
        "layer_wilcoxon": {
            "method": "wilcoxon",
            "layer": "half",
            "use_raw": False,
            "corr_method": "bonferroni",
        },
    }
    heads = ["group", "rank", "gene", "score", "p_value", "p_adj", "log2_fc", "pts"]
    for name, options in runs.items():
        sc.tl.rank_genes_groups(a, "label", pts=True, **options)
        r = a.uns["rank_genes_groups"]
        rows = []
        for group in r["names"].dtype.names:
            names = r["names"][group][:RANKS]
            for k, gene in enumerate(names):
                rows.append(
                    (
                        groups.index(group),
                        k,
                        genes.get_loc(gene),
                        r["scores"][group][k],
                        r["pvals"][group][k],
                        r["pvals_adj"][group][k],
                        r["logfoldchanges"][group][k],
                        r["pts"].loc[gene, group],
                        *([r["pts_rest"].loc[gene, group]] if "pts_rest" in r else []),
                    )
                )
        columns = heads + (["pts_rest"] if "pts_rest" in r else [])
        ref.table(name, dict(zip(columns, np.array(rows, dtype=np.float64).T)))
    ref.names("groups", groups)
    ref.names("genes", genes)
    overlap = {
        "B": ["MS4A1", "CD79A", "CD79B", "HLA-DRA"],
        "Mono": ["LYZ", "S100A8", "CST3", "FCN1", "NOT-A-GENE"],
        "NK": ["NKG7", "GNLY", "CST7"],
    }
    ref.value("overlap_lists", overlap)
    sc.tl.rank_genes_groups(a, "label", method="t-test", layer="half", use_raw=False)
    for method in ["overlap_count", "overlap_coef", "jaccard"]:
        got = sc.tl.marker_gene_overlap(a, overlap, method=method, top_n_markers=50)
        ref.table(method, {group: got[group].to_numpy() for group in got.columns})
    got = sc.tl.marker_gene_overlap(a, overlap, normalize="reference", top_n_markers=20)
    ref.table("overlap_normalized", {group: got[group].to_numpy() for group in got.columns})
    frame = sc.get.rank_genes_groups_df(a, group=None)
    ref.value("frame_columns", list(frame.columns))
    sc.tl.rank_genes_groups(a, "label", method="t-test", pts=True, use_raw=True)
    ref.value("frame_columns_pts", list(sc.get.rank_genes_groups_df(a, group=None).columns))
    ref.value("uns_keys", sorted(a.uns["rank_genes_groups"]))
    ref.value("uns_params", sorted(a.uns["rank_genes_groups"]["params"]))
    ref.write()


if __name__ == "__main__":
    main()
