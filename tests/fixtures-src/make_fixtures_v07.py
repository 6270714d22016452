"""Write the fixture in the format of anndata 0.7 (data frames 0.1.0).

    python -m venv old && old/bin/pip install "anndata==0.7.8" "numpy<1.24" \
        "pandas<1.6" "scipy<1.11" "h5py<3.9"
    old/bin/python tests/fixtures-src/make_fixtures_v07.py

Run it before make_fixtures.py, which enters the file in the manifest.
"""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

assert ad.__version__ == "0.7.8"
OUT = Path(__file__).parents[1] / "testthat" / "fixtures"

x = np.zeros((6, 8), dtype=np.float32)
x[0, [1, 4]], x[1, 6], x[3, [0, 7]], x[5, 2] = [1, 2], 3, [4, 5], 6
obs = pd.DataFrame(index=[f"cell{i + 1}" for i in range(6)])
obs["string"] = ["a", "", "ü", "NA", "b", "c"]
obs["factor"] = pd.Categorical(["b", "a", None, "b", "c", "a"], categories=["c", "b", "a"])
obs["ordered"] = pd.Categorical(
    ["low", "high", "low", None, "mid", "high"], ["low", "mid", "high"], ordered=True
)
obs["factor_int"] = pd.Categorical([3, 1, 2, 3, 1, 1])
obs["integer"] = np.arange(6, dtype=np.int64)
obs["uint8"] = np.arange(6, dtype=np.uint8)
obs["double"] = [1 / 3, np.nan, np.inf, 0.0, -1.5, 2.0]
obs["float32"] = np.arange(6, dtype=np.float32) / 4
obs["logical"] = [True, False, True, True, False, False]
var = pd.DataFrame({"gene_ids": [f"ENSG{i}" for i in range(8)]})
var.index = pd.Index([f"gene{i + 1}" for i in range(8)], name="symbol")

adata = ad.AnnData(sp.csr_matrix(x), obs=obs, var=var)
adata.raw = adata
adata.layers["counts"] = sp.csc_matrix(x)
adata.layers["dense"] = x * 2
adata.obsm["X_pca"] = np.arange(12, dtype=np.float64).reshape(6, 2)
adata.obsp["distances"] = sp.csr_matrix(np.eye(6))
adata.uns["factor_colors"] = np.array(["#000000", "#111111", "#222222"], dtype=object)
adata.uns["neighbors"] = {"params": {"n_neighbors": 15, "method": "umap"}}
OUT.mkdir(parents=True, exist_ok=True)
adata.write_h5ad(OUT / "legacy.anndata-v0.7.8.h5ad", compression="gzip")
