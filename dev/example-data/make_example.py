"""Simulate the example that ships with scoom: inst/extdata/example.h5ad.

    python dev/example-data/make_example.py

Negative binomial counts of 2,000 blood cells from eight donors, four of them
stimulated. Every gene has its own level in every donor, so cells of one donor
are not independent: tests that count cells call far too many genes, tests on
donors do not. What was planted stands in `var`, so that a method can be scored.

Written with anndata 0.12.19, h5py 3.16.0, numpy 2.2.6; same versions, same bytes.
"""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

SEED = 20240311
N_GENES = 2000
OUT = Path(__file__).parents[2] / "inst" / "extdata" / "example.h5ad"

# donor: (condition, sex, batch, cells)
DONORS = {
    "D1": ("ctrl", "F", "run1", 380),
    "D2": ("ctrl", "M", "run1", 260),
    "D3": ("ctrl", "F", "run2", 210),
    "D4": ("ctrl", "M", "run2", 140),
    "D5": ("stim", "F", "run1", 450),
    "D6": ("stim", "M", "run1", 320),
    "D7": ("stim", "F", "run2", 160),
    "D8": ("stim", "M", "run2", 80),
}
OUTLIER_DONOR = "D5"
CELL_TYPES = {"T cell": 0.48, "B cell": 0.17, "NK cell": 0.13, "Monocyte": 0.22}

MARKERS = {
    "T cell": "CD3D CD3E CD3G TRAC IL7R CD2 LTB IL32 CD27 CCR7 CD5 CD6 LEF1 TCF7 "
    "MAL LDHB BCL11B CD28 ITK CAMK4".split(),
    "B cell": "MS4A1 CD79A CD79B CD19 BANK1 IGHM IGHD BLK PAX5 FCRLA TCL1A VPREB3 "
    "HVCN1 CD22 SPIB P2RX5 FCER2 RALGPS2 CD24 LINC00926".split(),
    "NK cell": "NKG7 GNLY KLRD1 KLRF1 GZMB PRF1 SPON2 FGFBP2 FCGR3A CST7 GZMA CTSW "
    "HOPX CLIC3 XCL1 XCL2 KLRC1 TRDC MATK CD247".split(),
    "Monocyte": "LYZ S100A8 S100A9 CST3 FCN1 CD14 VCAN S100A12 MS4A6A CD68 AIF1 LST1 "
    "TYROBP FCER1G CFD SERPINA1 CSTA LGALS2 MNDA CTSS".split(),
}
STIM_ALL = (
    "ISG15 IFI6 IFIT1 IFIT2 IFIT3 MX1 MX2 OAS1 OAS2 OASL ISG20 IRF7 LY6E IFI44 "
    "IFI44L XAF1 RSAD2 HERC5 EPSTI1 TNFSF10"
).split()
STIM_MONOCYTE = "CXCL10 CXCL11 CCL8 CCL2 APOBEC3A TNFSF13B IL1RN CCR1 SOCS3 CD163".split()
OUTLIERS = "HBB HBA1 HBA2 GSTM1 CHI3L2 ERAP2 HLA-DQA1 UTS2 PSPHP1 ZNF683".split()
MT = (
    "MT-ND1 MT-ND2 MT-CO1 MT-CO2 MT-ATP8 MT-ATP6 MT-CO3 MT-ND3 MT-ND4L MT-ND4 "
    "MT-ND5 MT-ND6 MT-CYB"
).split()
RPL = "3 4 5 6 7 8 9 10 11 12 13 14 15 18 19 21 22 23 24 26 27 28 29 30 31 32".split()
RPS = "2 3 5 6 7 8 9 10 11 12 13 14 15 16 18 19 20 21 23 24 25 27 28 29".split()
RIBOSOMAL = [f"RPL{i}" for i in RPL] + [f"RPS{i}" for i in RPS]
Y_GENES = "RPS4Y1 DDX3Y EIF1AY KDM5D UTY USP9Y ZFY".split()
X_GENES = "XIST KDM6A EIF1AX DDX3X ZFX".split()
SYMBOLS = (
    sum(MARKERS.values(), [])
    + STIM_ALL
    + STIM_MONOCYTE
    + OUTLIERS
    + MT
    + RIBOSOMAL
    + Y_GENES
    + X_GENES
)


def make_var(rng):
    """Names, chromosomes and planted truth of the genes, in random order."""
    n_generic = N_GENES - len(SYMBOLS)
    names = np.array(SYMBOLS + [f"GENE{i + 1:04d}" for i in range(n_generic)])
    autosomes = np.array([f"chr{i}" for i in range(1, 23)])
    var = pd.DataFrame(index=names)
    var["chromosome"] = rng.choice(autosomes, N_GENES)
    var.loc[MT, "chromosome"] = "chrM"
    var.loc[Y_GENES, "chromosome"] = "chrY"
    var.loc[X_GENES, "chromosome"] = "chrX"
    generic = names[len(SYMBOLS) :]
    picked = iter(rng.permutation(generic))

    var.loc[[next(picked) for _ in range(70)], "chromosome"] = "chrX"

    var["planted_marker_of"] = pd.Series(np.nan, var.index, dtype=object)
    var["planted_marker_log2fc"] = 0.0
    for cell_type, genes in MARKERS.items():
        for members, low, high in [
            (genes, 2.5, 4.5),
            ([next(picked) for _ in range(10)], 1.5, 2.5),
        ]:
            var.loc[members, "planted_marker_of"] = cell_type
            var.loc[members, "planted_marker_log2fc"] = rng.uniform(low, high, len(members))
    var.loc[["CD3D", "MS4A1", "NKG7", "LYZ"], "planted_marker_log2fc"] = 4.5

    var["planted_condition_log2fc"] = 0.0
    var["planted_condition_in"] = pd.Series(np.nan, var.index, dtype=object)

    def plant(genes, where, log2fc):
        var.loc[genes, "planted_condition_in"] = where
        var.loc[genes, "planted_condition_log2fc"] = log2fc

    plant(STIM_ALL, "all", rng.uniform(2.0, 4.0, len(STIM_ALL)))
    plant(STIM_MONOCYTE, "Monocyte", rng.uniform(2.5, 4.5, len(STIM_MONOCYTE)))
    for where, n in [("all", 40), ("T cell", 15), ("B cell", 10), ("Monocyte", 15)]:
        genes = [next(picked) for _ in range(n)]
        sign = rng.choice([-1.0, 1.0], n)
        plant(genes, where, sign * rng.uniform(1.2, 2.5, n))

    var["outlier_of_donor"] = pd.Series(np.nan, var.index, dtype=object)
    var.loc[OUTLIERS + [next(picked) for _ in range(10)], "outlier_of_donor"] = (
        OUTLIER_DONOR
    )

    for column in ["planted_marker_log2fc", "planted_condition_log2fc"]:
        var[column] = var[column].round(2)
    var = var.iloc[rng.permutation(N_GENES)].copy()
    chromosomes = list(autosomes) + ["chrX", "chrY", "chrM"]
    var["chromosome"] = pd.Categorical(var["chromosome"], chromosomes)
    var["planted_marker_of"] = pd.Categorical(var["planted_marker_of"], list(CELL_TYPES))
    var["planted_condition_in"] = pd.Categorical(
        var["planted_condition_in"], ["all", *CELL_TYPES]
    )
    var["outlier_of_donor"] = pd.Categorical(var["outlier_of_donor"], list(DONORS))
    return var


def make_obs(rng):
    """Barcodes, donors and cell types, in random order."""
    types = list(CELL_TYPES)
    rows = []
    for donor, (condition, sex, batch, n_cells) in DONORS.items():
        shares = rng.dirichlet(40 * np.array(list(CELL_TYPES.values())))
        for cell_type in rng.choice(types, n_cells, p=shares):
            rows.append((cell_type, donor, condition, sex, batch))
    obs = pd.DataFrame(rows, columns=["cell_type", "donor", "condition", "sex", "batch"])
    obs = obs.iloc[rng.permutation(len(obs))].reset_index(drop=True)
    levels = {
        "cell_type": types,
        "donor": list(DONORS),
        "condition": ["ctrl", "stim"],
        "sex": ["F", "M"],
        "batch": ["run1", "run2"],
    }
    for column, values in levels.items():
        obs[column] = pd.Categorical(obs[column], values)
    obs["low_quality"] = rng.random(len(obs)) < 0.02
    barcodes = set()
    while len(barcodes) < len(obs):
        barcodes.add("".join(rng.choice(list("ACGT"), 16)) + "-1")
    obs.index = sorted(barcodes)
    return obs


def base_expression(rng, var):
    """Relative expression of every gene in a cell that expresses no marker."""
    base = rng.lognormal(0.0, 1.5, N_GENES)
    base = pd.Series(base, var.index).clip(upper=60)
    base[RIBOSOMAL] = rng.lognormal(3.0, 0.5, len(RIBOSOMAL))
    base[MT] = rng.lognormal(2.6, 0.6, len(MT))
    markers = var.index[var["planted_marker_of"].notna()]
    base[markers] = rng.lognormal(0.7, 0.5, len(markers))
    for genes, level in [
        (["LYZ", "S100A8", "S100A9"], 6),
        (["NKG7", "GNLY"], 5),
        (["CD3D", "MS4A1", "CD79A", "IL7R"], 3),
    ]:
        base[genes] = level
    changed = var.index[var["planted_condition_in"].notna()]
    base[changed] = rng.lognormal(0.9, 0.5, len(changed))
    outliers = var.index[var["outlier_of_donor"].notna()]
    base[outliers] = rng.lognormal(0.3, 0.4, len(outliers))
    base[["XIST", *Y_GENES]] = rng.lognormal(1.6, 0.4, 1 + len(Y_GENES))
    return base


def simulate(rng, obs, var):
    """Negative binomial counts, cells x genes."""
    log_mean = np.log(base_expression(rng, var).to_numpy())
    ln2 = np.log(2.0)
    marker_of = var["planted_marker_of"]
    marker_lfc = var["planted_marker_log2fc"].to_numpy() * ln2
    effect_in = var["planted_condition_in"]
    effect_lfc = var["planted_condition_log2fc"].to_numpy() * ln2

    donor_level = {d: rng.normal(0.0, 0.27, N_GENES) for d in DONORS}
    donor_type_level = {
        (d, t): rng.normal(0.0, 0.12, N_GENES) for d in DONORS for t in CELL_TYPES
    }
    batch_level = {b: rng.normal(0.0, 0.10, N_GENES) for b in ["run1", "run2"]}
    type_level = {t: rng.normal(0.0, 0.10, N_GENES) for t in CELL_TYPES}
    dispersion = 0.15 + 0.6 / np.exp(log_mean).clip(0.5, None)

    size = {"T cell": 1.0, "B cell": 0.95, "NK cell": 0.9, "Monocyte": 1.5}
    counts = np.zeros((len(obs), N_GENES), dtype=np.int64)
    for i, cell in enumerate(obs.itertuples()):
        eta = log_mean + donor_level[cell.donor] + type_level[cell.cell_type]
        eta = eta + donor_type_level[cell.donor, cell.cell_type] + batch_level[cell.batch]
        own = (marker_of == cell.cell_type).to_numpy()
        # A marker keeps its level in its own type and falls in the others.
        eta = eta + np.where(own, 0.6 * marker_lfc, -0.4 * marker_lfc)
        if cell.condition == "stim":
            hit = effect_in.isin(["all", cell.cell_type]).to_numpy()
            eta = eta + np.where(hit, effect_lfc, 0.0)
        if cell.donor == OUTLIER_DONOR:
            eta = eta + np.where(var["outlier_of_donor"].notna(), 3.2 * ln2, 0.0)
        expected = np.exp(eta)
        silent = ["XIST"] if cell.sex == "M" else Y_GENES
        expected[var.index.get_indexer(silent)] = 0.0
        if cell.low_quality:
            expected[var.index.get_indexer(MT)] *= rng.uniform(8.0, 20.0)
        depth = 520 * size[cell.cell_type] * rng.lognormal(0.0, 0.3)
        depth *= 0.45 if cell.low_quality else 1.0
        mean = depth * expected / expected.sum()
        counts[i] = rng.poisson(mean * rng.gamma(1 / dispersion, dispersion))
    return counts


def main():
    rng = np.random.default_rng(SEED)
    var, obs = make_var(rng), make_obs(rng)
    counts = simulate(rng, obs, var)
    adata = ad.AnnData(sp.csr_matrix(counts.astype(np.float32)), obs=obs, var=var)
    adata.uns["simulation"] = {
        "script": "dev/example-data/make_example.py",
        "seed": SEED,
        "outlier_donor": OUTLIER_DONOR,
    }
    adata.uns["cell_type_colors"] = np.array(["#0072B2", "#E69F00", "#009E73", "#CC79A7"])
    OUT.parent.mkdir(parents=True, exist_ok=True)
    adata.write_h5ad(OUT, compression="gzip", compression_opts=9)
    nnz = int((counts > 0).sum())
    print(
        f"{OUT.name}: {adata.n_obs} x {adata.n_vars}, {nnz} values,",
        OUT.stat().st_size,
        "bytes",
    )


if __name__ == "__main__":
    main()
