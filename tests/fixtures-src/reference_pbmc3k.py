"""Reference results on pbmc3k: QC, moments, variable genes, PCA, marker tests.

    python tests/fixtures-src/reference_pbmc3k.py

Everything is float64, whatever the file stores. Log data is
`log1p((x * 1e4) / total)`, one rounding before the logarithm, totals over the
13,714 genes seen in at least 3 of all 2,700 cells; equal ratios stay equal, so
that ranks tie where they must. Marker tests use the 2,638 cells with a label.
"""

import warnings

import anndata as ad
import mpmath
import numpy as np
import pandas as pd
import scanpy as sc
import scipy.linalg
import scipy.sparse as sp
import scipy.stats as st

from reference_io import DATA, Reference

warnings.filterwarnings("ignore")
LN10 = np.log(10.0)


def qc(ref, raw):
    a = ad.AnnData(raw.X.astype(np.float64), raw.obs[[]].copy(), raw.var[[]].copy())
    a.var["mt"] = a.var_names.str.startswith("MT-")
    a.var["ribo"] = a.var_names.str.match("^RP[SL]")
    sc.pp.calculate_qc_metrics(
        a, qc_vars=["mt", "ribo"], percent_top=[50, 100, 200, 500], inplace=True
    )
    ref.table("qc_obs", {c: a.obs[c] for c in a.obs}, rows="cells")
    keep = [c for c in a.var if c not in ("mt", "ribo")]
    ref.table("qc_var", {c: a.var[c] for c in keep}, rows="genes_all")


def moments(ref, counts, logs):
    columns = {}
    for name, m in [("counts", counts), ("log", logs)]:
        columns[f"mean_{name}"] = m.mean(axis=0)
        columns[f"variance_{name}"] = m.var(axis=0, ddof=1)
    ref.table("moments", columns, rows="genes")


def variable_genes(ref, logs, genes):
    a = ad.AnnData(sp.csr_matrix(logs), var=pd.DataFrame(index=genes))
    a.uns["log1p"] = {"base": None}
    top = sc.pp.highly_variable_genes(a, flavor="seurat", n_top_genes=2000, inplace=False)
    cut = sc.pp.highly_variable_genes(a, flavor="seurat", inplace=False)
    ref.table(
        "variable_genes",
        {
            "means": top["means"],
            "dispersions": top["dispersions"],
            "dispersions_norm": top["dispersions_norm"],
            "highly_variable": top["highly_variable"],
            "highly_variable_default": cut["highly_variable"],
        },
        rows="genes",
    )
    return top["highly_variable"].to_numpy()


def pca(ref, logs, chosen, genes):
    z = logs[:, chosen]
    z = (z - z.mean(axis=0)) / z.std(axis=0, ddof=1)
    z = np.clip(z, -10, 10)
    z -= z.mean(axis=0)
    u, d, vt = scipy.linalg.svd(z, full_matrices=False, lapack_driver="gesdd")
    variance = d**2 / (len(z) - 1)
    v = vt[:50].T
    ref.table(
        "pca_variance",
        {
            "variance": variance[:50],
            "variance_ratio": variance[:50] / variance.sum(),
        },
    )
    ref.names("pca_genes", genes[chosen])
    ref.table("pca_loadings", {f"PC{k + 1}": v[:, k] for k in range(50)}, rows="pca_genes")
    scores = (u[:, :50] * d[:50])[:200]
    ref.table("pca_scores", {f"PC{k + 1}": scores[:, k] for k in range(50)})
    ref.value(
        "pca",
        {
            "n_cells": len(z),
            "n_genes": int(chosen.sum()),
            "total_variance": variance.sum(),
            "smallest_relative_gap": float((-np.diff(variance[:51]) / variance[:50]).min()),
            "scores": "of the first 200 cells",
        },
    )
    check = sc.pp.pca(ad.AnnData(z), n_comps=50, svd_solver="arpack", copy=True)
    cosine = np.abs((check.varm["PCs"] * v).sum(axis=0))
    print("scanpy arpack against LAPACK: 1 - |cosine| <=", (1 - cosine).max())


def log10_of(p):
    """log10 of p where p is above 1e-300, otherwise NaN; 30 bits of the fraction
    (5e-10 of the value) are kept, so that the file is small."""
    p = np.asarray(p, dtype=np.float64)
    log10_p = np.where(p > 1e-300, np.log10(np.maximum(p, 1e-300)), np.nan)
    bits = (log10_p.view(np.uint64) + np.uint64(1 << 21)) & ~np.uint64((1 << 22) - 1)
    return bits.view(np.float64)


def scanpy_tests(ref, logs, labels, genes, rng):
    a = ad.AnnData(
        sp.csr_matrix(logs),
        pd.DataFrame({"louvain": labels.to_numpy()}),
        pd.DataFrame(index=genes),
    )
    a.obs["louvain"] = pd.Categorical(a.obs["louvain"], labels.cat.categories)
    a.uns["log1p"] = {"base": None}
    a.obs_names = [str(i) for i in range(a.n_obs)]
    groups = list(a.obs["louvain"].cat.categories)
    sampled = np.sort(rng.choice(len(genes), 300, replace=False))
    runs = {
        "t_test": {"method": "t-test"},
        "t_test_overestim_var": {"method": "t-test_overestim_var"},
        "wilcoxon": {"method": "wilcoxon"},
        "wilcoxon_tie_correct": {"method": "wilcoxon", "tie_correct": True},
    }
    for name, options in runs.items():
        sc.tl.rank_genes_groups(a, "louvain", use_raw=False, **options)
        r = a.uns["rank_genes_groups"]
        rows, scores_all, log10_p_all = [], {}, {}
        for g, group in enumerate(groups):
            index = a.var_names.get_indexer(r["names"][group])
            by_gene = np.empty(len(genes))
            by_gene[index] = r["scores"][group]
            scores_all[group] = by_gene
            by_gene = np.empty(len(genes))
            by_gene[index] = log10_of(r["pvals"][group])
            log10_p_all[group] = by_gene
            chosen = np.zeros(len(index), dtype=bool)
            chosen[:100] = True
            chosen |= np.isin(index, sampled)
            for k in np.flatnonzero(chosen):
                rows.append(
                    (
                        g,
                        k,
                        index[k],
                        r["scores"][group][k],
                        r["pvals"][group][k],
                        r["pvals_adj"][group][k],
                        r["logfoldchanges"][group][k],
                    )
                )
        table = np.array(rows, dtype=np.float64).T
        heads = ["group", "rank", "gene", "score", "p_value", "p_adj", "log2_fc"]
        ref.table(f"scanpy_{name}", dict(zip(heads, table)))
        if name in ("t_test", "wilcoxon", "wilcoxon_tie_correct"):
            ref.table(f"scanpy_{name}_scores", scores_all, rows="genes", dtype="float32")
            ref.table(f"scanpy_{name}_log10_p", log10_p_all, rows="genes")
    ref.names("groups", groups)


def log10_t(t, df):
    """log10 of the two-sided p-value, from 40 digits."""
    mpmath.mp.dps = 40
    t, df = mpmath.mpf(float(t)), mpmath.mpf(float(df))
    p = mpmath.betainc(df / 2, mpmath.mpf("0.5"), 0, df / (df + t * t), regularized=True)
    return float(mpmath.log10(p))


def rank_sum(x, y):
    """U of x, the z without and with continuity correction, ties corrected."""
    n1, n2 = len(x), len(y)
    both = np.concatenate([x, y])
    ranks = st.rankdata(both)
    u = ranks[:n1].sum() - n1 * (n1 + 1) / 2
    ties = np.unique(both, return_counts=True)[1].astype(np.float64)
    n = n1 + n2
    sigma = np.sqrt(n1 * n2 / 12 * ((n + 1) - (ties**3 - ties).sum() / (n * (n - 1))))
    z = u - n1 * n2 / 2
    if sigma == 0:
        return u, 0.0, 0.0
    return u, z / sigma, (z - np.sign(z) * 0.5) / sigma


def log10_normal(z):
    return min(0.0, (np.log(2.0) + st.norm.logsf(abs(z))) / LN10)


def independent_tests(ref, logs, labels, genes, rng):
    """Welch and rank sum by scipy, gene by gene, on 200 random genes that vary."""
    candidates = np.flatnonzero((logs > 0).any(axis=0))
    sampled = np.sort(rng.choice(candidates, 200, replace=False))
    rows, worst = [], 0.0
    for g, group in enumerate(labels.cat.categories):
        inside = (labels == group).to_numpy()
        for j in sampled:
            x, y = logs[inside, j], logs[~inside, j]
            u, z, z_continuity = rank_sum(x, y)
            for use, value in [(False, z), (True, z_continuity)]:
                test = st.mannwhitneyu(x, y, method="asymptotic", use_continuity=use)
                assert test.statistic == u
                if test.pvalue > 1e-280:
                    worst = max(worst, abs(np.log10(test.pvalue) - log10_normal(value)))
            welch = st.ttest_ind(x, y, equal_var=False)
            t = 0.0 if np.isnan(welch.statistic) else welch.statistic
            df = np.inf if np.isnan(welch.df) else welch.df
            log10_p = log10_t(t, df) if t != 0 else 0.0
            if t != 0 and welch.pvalue > 1e-280:
                worst = max(worst, abs(np.log10(welch.pvalue) - log10_p))
            rows.append(
                (
                    g,
                    j,
                    len(x),
                    len(y),
                    u,
                    u / (len(x) * len(y)),
                    z,
                    log10_normal(z),
                    z_continuity,
                    log10_normal(z_continuity),
                    t,
                    df,
                    log10_p,
                    x.mean(),
                    y.mean(),
                    x.var(ddof=1),
                    y.var(ddof=1),
                    np.expm1(x).mean(),
                    np.expm1(y).mean(),
                    (x > 0).mean(),
                    (y > 0).mean(),
                )
            )
    heads = (
        "group gene n_group n_reference u auc z log10_p z_continuity log10_p_continuity "
        "t df log10_p_t mean_log_group mean_log_reference var_log_group var_log_reference "
        "mean_group mean_reference pct_group pct_reference"
    ).split()
    assert worst < 1e-9, worst
    print("own formulas against scipy's p-values: log10 p differs by", worst)
    ref.table("tests_scipy", dict(zip(heads, np.array(rows, dtype=np.float64).T)))


def main():
    rng = np.random.default_rng(11)
    raw = ad.read_h5ad(DATA / "counts" / "pbmc3k_raw.h5ad")
    ref = Reference("pbmc3k", ["scanpy", "anndata", "numpy", "scipy", "pandas", "mpmath"])
    ref.names("cells", raw.obs_names)
    ref.names("genes_all", raw.var_names)
    qc(ref, raw)

    seen = np.asarray((raw.X > 0).sum(axis=0)).ravel() >= 3
    assert seen.sum() == 13714
    genes = raw.var_names[seen]
    ref.names("genes", genes)
    counts = raw.X[:, seen].toarray().astype(np.float64)
    logs = np.log1p((counts * 1e4) / counts.sum(axis=1, keepdims=True))

    moments(ref, counts, logs)
    chosen = variable_genes(ref, logs, genes)
    print("variable genes:", chosen.sum())
    pca(ref, logs, chosen, genes)

    labelled = raw.obs["louvain"].notna().to_numpy()
    labels = (
        raw.obs["louvain"][labelled].cat.remove_unused_categories().reset_index(drop=True)
    )
    logs = logs[labelled]
    scanpy_tests(ref, logs, labels, genes, rng)
    independent_tests(ref, logs, labels, genes, rng)
    ref.write()


if __name__ == "__main__":
    main()
