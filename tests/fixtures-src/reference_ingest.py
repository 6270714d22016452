"""Labels of one half of the cells by the other, by the rule of scanpy's ingest.

    python tests/fixtures-src/reference_ingest.py

scanpy.tl.ingest() 1.11.5 does not run with pynndescent 0.6. Its steps are taken here with
numpy and scikit-learn: components of the reference, a query centred at its own means, 15
nearest neighbours, the most frequent label, of equal ones the first.
"""

import anndata as ad
import numpy as np
from sklearn.neighbors import NearestNeighbors

from reference_io import DATA, Reference


def ingest(ref, name, x, labels):
    levels, codes = np.unique(np.asarray(labels).astype(str), return_inverse=True)
    reference, query = x[0::2], x[1::2]
    _, _, vt = np.linalg.svd(reference - reference.mean(axis=0), full_matrices=False)
    basis = vt[:50].T
    there = (reference - reference.mean(axis=0)) @ basis
    here = (query - query.mean(axis=0)) @ basis
    search = NearestNeighbors(n_neighbors=15, algorithm="brute").fit(there)
    votes = codes[0::2][search.kneighbors(here, return_distance=False)]
    found = [np.bincount(row, minlength=len(levels)).argmax() for row in votes]
    ref.value(f"levels_{name}", list(levels))
    ref.table(name, {"label": found}, dtype="float32")


def main():
    ref = Reference("ingest", ["numpy", "scikit-learn"])
    a = ad.read_h5ad(DATA / "h5ad_fixtures" / "scanpy_10x_pbmc68k_reduced.h5ad")
    ingest(ref, "pbmc68k", np.asarray(a.X, dtype=np.float64), a.obs["bulk_labels"])
    ref.write()


if __name__ == "__main__":
    main()
