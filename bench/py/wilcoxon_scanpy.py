"""Wilcoxon's test of 12 clusters by scanpy, from the file, without and with correction for
ties: prints a line of JSON for each step with seconds. scoom corrects for ties by default,
so that its numbers are those of the second. Some genes tell the time of all: each takes as
long as any other.

    OMP_NUM_THREADS=2 NUMBA_NUM_THREADS=2 python bench/py/wilcoxon_scanpy.py FILE [genes]
"""

import json
import sys
import time
import warnings

warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import scanpy as sc  # noqa: E402

path = sys.argv[1]


def step(name, run):
    begin = time.perf_counter()
    value = run()
    seconds = round(time.perf_counter() - begin, 3)
    line = {"engine": f"scanpy {sc.__version__}", "task": f"wilcoxon {name}", "seconds": seconds}
    print(json.dumps(line), flush=True)
    return value


def test(cells, tie_correct):
    sc.tl.rank_genes_groups(
        cells, "cluster", method="wilcoxon", pts=True, tie_correct=tie_correct
    )


def normalize(cells):
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)


cells = step("read", lambda: sc.read_h5ad(path))
step("normalize", lambda: normalize(cells))
n_genes = int(sys.argv[2]) if len(sys.argv) > 2 else cells.n_vars
some = cells[:, np.linspace(0, cells.n_vars - 1, n_genes).astype(int)].copy()
few = some[:, :20].copy()
for tie_correct in (False, True):
    # A first call compiles.
    test(few, tie_correct)
    name = f"{n_genes} genes, tie_correct={tie_correct}"
    step(name, lambda tie_correct=tie_correct: test(some, tie_correct))
