"""Reference results for scores of gene sets and for doublets.

    python tests/fixtures-src/reference_scores.py

What scanpy draws at random (control genes, parents of simulated doublets) is recorded
and stored, so that the same can be given to another implementation.
"""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import scanpy.preprocessing._scrublet.core as scrublet_core
import scanpy.tools._score_genes as score_module

from reference_io import DATA, Reference

warnings.filterwarnings("ignore")
CELLS = 300

S_GENES = """MCM5 PCNA TYMS FEN1 MCM2 MCM4 RRM1 UNG GINS2 MCM6 CDCA7 DTL PRIM1 UHRF1
MLF1IP HELLS RFC2 RPA2 NASP RAD51AP1 GMNN WDR76 SLBP CCNE2 UBR7 POLD3 MSH2 ATAD2 RAD51
RRM2 CDC45 CDC6 EXO1 TIPIN DSCC1 BLM CASP8AP2 USP1 CLSPN POLA1 CHAF1B BRIP1 E2F8""".split()
G2M_GENES = """HMGB2 CDK1 NUSAP1 UBE2C BIRC5 TPX2 TOP2A NDC80 CKS2 NUF2 CKS1B MKI67 TMPO
CENPF TACC3 FAM64A SMC4 CCNB2 CKAP2L CKAP2 AURKB BUB1 KIF11 ANP32E TUBB4B GTSE1 KIF20B
HJURP CDCA3 HN1 CDC20 TTK CDC25C KIF2C RANGAP1 NCAPD2 DLGAP5 CDCA2 CDCA8 ECT2 KIF23 HMMR
AURKA PSRC1 ANLN LBR CKAP5 CENPE CTCF NEK2 G2E3 GAS2L3 CBX5 CENPA""".split()
INTERFERON = "ISG15 IFI6 IFIT1 IFIT2 IFIT3 MX1 OAS1 ISG20 LY6E IFI44L".split()


class Recorder:
    """Keeps the control genes of every call of score_genes()."""

    def __init__(self):
        self.controls = []
        self.bins = score_module._score_genes_bins

    def __call__(self, *args, **kwargs):
        genes = pd.Index([], dtype="string")
        parts = list(self.bins(*args, **kwargs))
        for part in parts:
            genes = genes.union(part)
        self.controls.append(list(genes))
        yield from parts


def read(name):
    a = ad.read_h5ad(DATA / "counts" / name)
    a.X = a.X.astype(np.float64)
    return a


def logged(name):
    a = read(name)
    sc.pp.filter_genes(a, min_cells=3)
    sc.pp.normalize_total(a, target_sum=1e4)
    sc.pp.log1p(a)
    return a


def scores(ref):
    recorder = Recorder()
    score_module._score_genes_bins = recorder
    a = logged("pbmc3k_raw.h5ad")
    # As many controls as bins have genes: nothing is random.
    everything = {"ctrl_size": 10**6}
    sc.tl.score_genes(a, S_GENES, score_name="all_ref", **everything)
    sc.tl.score_genes(a, S_GENES, score_name="all_other", ctrl_as_ref=False, **everything)
    sc.tl.score_genes(a, S_GENES, score_name="all_bins", n_bins=10, **everything)
    pool = list(a.var_names[::3].union(S_GENES).intersection(a.var_names))
    sc.tl.score_genes(a, S_GENES, score_name="all_pool", gene_pool=pool, **everything)
    recorder.controls.clear()
    sc.tl.score_genes(a, S_GENES, score_name="drawn")
    sc.tl.score_genes_cell_cycle(a, s_genes=S_GENES, g2m_genes=G2M_GENES)
    names = ["all_ref", "all_other", "all_bins", "all_pool", "drawn", "S_score", "G2M_score"]
    ref.table("pbmc3k", {n: a.obs[n].iloc[:CELLS] for n in names})
    ref.names("phase", a.obs["phase"].iloc[:CELLS])
    for name, controls in zip(["drawn", "S_score", "G2M_score"], recorder.controls, strict=True):
        ref.names(name, controls)

    recorder.controls.clear()
    a = logged("kang2018_pbmc_ifnb_2000cells.h5ad")
    sc.tl.score_genes(a, INTERFERON, score_name="interferon")
    sc.tl.score_genes(a, INTERFERON, score_name="all_ref", **everything)
    ref.table("kang2018", {n: a.obs[n].iloc[:CELLS] for n in ["interferon", "all_ref"]})
    ref.names("kang2018_interferon", recorder.controls[0])

    # Missing values, which a sparse file can hold.
    rng = np.random.default_rng(1)
    x = np.where(rng.random((40, 30)) < 0.5, 0, rng.integers(1, 9, (40, 30))).astype(float)
    x[3, 4] = x[5, 6] = x[7, :8] = x[:, 29] = np.nan
    a = ad.AnnData(x, var=pd.DataFrame(index=[f"g{j}" for j in range(30)]))
    sc.tl.score_genes(
        a, ["g1", "g4", "g6"], score_name="missing", n_bins=5, ctrl_as_ref=False, **everything
    )
    ref.table("missing", {"score": a.obs["missing"]})
    ref.table("missing_values", {f"g{j}": x[:, j] for j in range(30)}, dtype="float32")
    score_module._score_genes_bins = recorder.bins


def doublets(ref, name, a, batch_key=None):
    """Exact neighbours and the parents that numpy drew."""
    parents, themselves = [], []
    drawn = scrublet_core.sample_comb
    table = scrublet_core._get_indices_distances_from_sparse_matrix

    def sample_comb(*args, **kwargs):
        pairs = drawn(*args, **kwargs)
        parents.append(pairs)
        return pairs

    # Where points coincide, scanpy may take a neighbour for the point itself, and leaves
    # the points out of their own neighbours then.
    def table_of(*args, **kwargs):
        indices, distances = table(*args, **kwargs)
        themselves.append(bool((indices[:, 0] == np.arange(len(indices))).all()))
        return indices, distances

    scrublet_core.sample_comb = sample_comb
    scrublet_core._get_indices_distances_from_sparse_matrix = table_of
    sc.pp.scrublet(a, batch_key=batch_key, use_approx_neighbors=False)
    scrublet_core.sample_comb = drawn
    scrublet_core._get_indices_distances_from_sparse_matrix = table
    found = a.uns["scrublet"]
    batches = found["batches"] if batch_key else {"": found}
    predicted = a.obs["predicted_doublet"].astype(float)
    ref.table(name, {"score": a.obs["doublet_score"], "predicted": predicted})
    labels = np.repeat(np.arange(len(batches)), [len(p) for p in parents])
    pairs = np.vstack(parents)
    simulated = np.concatenate([b["doublet_scores_sim"] for b in batches.values()])
    columns = {"batch": labels, "a": pairs[:, 0], "b": pairs[:, 1]}
    ref.table(f"{name}_parents", columns, dtype="float32")
    ref.table(f"{name}_simulated", {"score": simulated})
    ref.names(f"{name}_batches", list(batches))
    ref.value(f"{name}_itself", themselves)
    ref.value(f"{name}_threshold", [b.get("threshold") for b in batches.values()])
    ref.value(f"{name}_neighbors", [b["parameters"]["n_neighbors"] for b in batches.values()])


def thresholds(ref):
    """threshold_minimum() of scikit-image on three samples of scores."""
    from skimage.filters import threshold_minimum

    rng = np.random.default_rng(3)
    samples = {
        "two": np.concatenate([rng.beta(2, 30, 3000), rng.beta(8, 12, 1500)]),
        "apart": np.concatenate([rng.beta(2, 60, 300), rng.beta(60, 20, 100)]),
        "one": rng.beta(3, 40, 2000),
    }
    found = {}
    for name, values in samples.items():
        try:
            found[name] = float(threshold_minimum(values))
        except RuntimeError:
            found[name] = None
        ref.table(f"threshold_{name}", {"value": values})
    ref.value("thresholds", found)


def main():
    ref = Reference("scores", ["scanpy", "anndata", "numpy", "pandas"])
    scores(ref)
    ref.write()
    ref = Reference("doublets", ["scanpy", "anndata", "numpy", "scikit-learn", "scikit-image"])
    doublets(ref, "pbmc3k", read("pbmc3k_raw.h5ad"))
    a = read("kang2018_pbmc_ifnb_2000cells.h5ad")
    a = a[a.obs["sample_id"].notna()].copy()
    doublets(ref, "kang2018", a, batch_key="sample_id")
    thresholds(ref)
    ref.write()


if __name__ == "__main__":
    main()
