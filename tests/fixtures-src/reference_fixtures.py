"""Digests of the shared .h5ad fixtures of anndata >= 0.7, as anndata reads them.

python tests/fixtures-src/reference_fixtures.py
"""

import json
import warnings
from importlib.metadata import version

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

from reference_io import DATA, OUT

warnings.filterwarnings("ignore")


def number(x):
    x = float(x)
    if np.isnan(x):
        return "NaN"
    if np.isinf(x):
        return "Inf" if x > 0 else "-Inf"
    return int(x) if x == int(x) and abs(x) < 2**53 else x


def names(index):
    values = [str(v) for v in index]
    return {
        "n": len(values),
        "n_unique": len(set(values)),
        "first": values[:5],
        "last": values[-1] if values else None,
    }


def column(s):
    entry = {"dtype": str(s.dtype), "n_missing": int(s.isna().sum())}
    head = s.iloc[:5]
    missing = head.isna()
    if isinstance(s.dtype, pd.CategoricalDtype):
        levels = [str(v) for v in s.cat.categories]
        counts = s.value_counts(sort=False).reindex(s.cat.categories)
        entry |= {
            "dtype": "category",
            "type": "ordered" if s.cat.ordered else "factor",
            "levels_dtype": str(s.cat.categories.dtype),
            "n_levels": len(levels),
            "levels": levels[:60],
            "counts": [int(v) for v in counts][:60],
            "first": [None if m else str(v) for v, m in zip(head, missing)],
        }
    elif s.dtype == object or str(s.dtype) in ("string", "str"):
        entry |= {
            "type": "string",
            "first": [None if m else str(v) for v, m in zip(head, missing)],
            "n_unique": int(s.nunique()),
        }
    elif str(s.dtype) in ("bool", "boolean"):
        entry |= {
            "type": "logical",
            "first": ["NA" if m else bool(v) for v, m in zip(head, missing)],
            "sum": int(s.sum()),
        }
    else:
        kind = "integer" if pd.api.types.is_integer_dtype(s.dtype) else "double"
        values = s.dropna().to_numpy(dtype=np.float64)
        entry |= {
            "type": kind,
            "sum": number(values[np.isfinite(values)].sum()),
            "first": [
                "NA" if m and kind == "integer" else number(v)
                for v, m in zip(head, missing)
            ],
        }
    return entry


def frame(df):
    return {
        "names": names(df.index),
        "columns": {str(c): column(df[c]) for c in df.columns},
    }


def matrix(m):
    m = (m.toarray() if sp.issparse(m) else np.asarray(m)).astype(np.float64)
    finite = np.where(np.isfinite(m), m, 0.0)
    i, j = np.indices(m.shape)
    return {
        "shape": list(m.shape),
        "n_nonfinite": int((~np.isfinite(m)).sum()),
        "n_nonzero": int((finite != 0).sum()),
        "sum": number(finite.sum()),
        "sum_squares": number((finite**2).sum()),
        "weighted_sum": number((finite * (i + 1) * (j + 1)).sum()),
    }


def obsm(v):
    if isinstance(v, pd.DataFrame):
        return {"kind": "dataframe", **frame(v)}
    return {"kind": "matrix", **matrix(v)}


def main():
    result = {
        "versions": {p: version(p) for p in ["anndata", "numpy", "pandas"]},
        "files": {},
    }
    for path in sorted((DATA / "h5ad_fixtures").glob("*.h5ad")):
        with h5py.File(path) as f:
            if not (isinstance(f["obs"], h5py.Group) and isinstance(f["var"], h5py.Group)):
                print("before 0.7:", path.name)
                continue
        a = ad.read_h5ad(path)
        entry = {
            "shape": list(a.shape),
            "X": None if a.X is None else matrix(a.X),
            "obs": frame(a.obs),
            "var": frame(a.var),
            "layers": {k: matrix(v) for k, v in a.layers.items()},
            "obsm": {k: obsm(v) for k, v in a.obsm.items()},
            "uns": list(a.uns),
        }
        for slot in ["varm", "obsp", "varp"]:
            entry[slot] = {k: obsm(v) for k, v in getattr(a, slot).items()}
        if a.raw is not None:
            entry["raw"] = {"X": matrix(a.raw.X), "var": frame(a.raw.var)}
        result["files"][path.name] = entry
    text = json.dumps(result, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "shared-fixtures.json").write_text(
        text.replace('},"', '},\n"') + "\n", encoding="utf-8"
    )
    print(len(result["files"]), "files")


main()
