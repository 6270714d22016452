"""Raw counts to UMAP and Leiden clusters by scanpy, the steps of bench/r/pipeline.R on
the same file: prints a line of JSON for each step and one for all, with seconds, CPU
seconds and the peak of memory (of the whole process, which holds the matrix).

    OMP_NUM_THREADS=2 NUMBA_NUM_THREADS=2 python bench/py/pipeline_scanpy.py FILE [threads]
"""

import json
import os
import sys
import time
import warnings

path = sys.argv[1]
threads = int(sys.argv[2]) if len(sys.argv) > 2 else 2
# Before numpy and numba are loaded.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, str(threads))
warnings.filterwarnings("ignore")

import anndata as ad  # noqa: E402
import numpy as np  # noqa: E402
import scanpy as sc  # noqa: E402

sc.settings.n_jobs = threads
lines = []


def status(field):
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1000
    return float("nan")


def step(name, run):
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        pass
    cpu, begin = time.process_time(), time.perf_counter()
    value = run()
    lines.append(
        {
            "engine": f"scanpy {sc.__version__}",
            "task": f"pipeline {name}",
            "cells": cells,
            "threads": threads,
            "seconds": round(time.perf_counter() - begin, 3),
            "cpu": round(time.process_time() - cpu, 3),
            "peak_mb": round(status("VmHWM")),
        }
    )
    print(json.dumps(lines[-1]), flush=True)
    return value


def compile_kernels():
    """numba compiles on first use, which belongs to no step."""
    rng = np.random.default_rng(0)
    small = ad.AnnData(rng.poisson(1.0, (5000, 60)).astype("float32"))
    sc.pp.normalize_total(small)
    sc.pp.log1p(small)
    sc.pp.pca(small, n_comps=20)
    sc.pp.neighbors(small)
    sc.tl.umap(small, maxiter=5)
    sc.tl.leiden(small, flavor="igraph", n_iterations=2, directed=False)


cells = 0
compile_kernels()
a = step("read", lambda: ad.read_h5ad(path))
cells = a.n_obs
lines[0]["cells"] = cells
step("calc_qc_metrics", lambda: sc.pp.calculate_qc_metrics(a, inplace=True))
step("filter_cells", lambda: sc.pp.filter_cells(a, min_genes=200))
step("filter_genes", lambda: sc.pp.filter_genes(a, min_cells=3))
step("normalize_total", lambda: sc.pp.normalize_total(a, target_sum=1e4))
step("log1p", lambda: sc.pp.log1p(a))
step("find_variable_genes", lambda: sc.pp.highly_variable_genes(a, n_top_genes=2000))


def scale():
    chosen = a[:, a.var["highly_variable"]].copy()
    sc.pp.scale(chosen, max_value=10)
    return chosen


a = step("scale_genes", scale)
step("run_pca", lambda: sc.pp.pca(a, n_comps=50))
step("find_neighbors", lambda: sc.pp.neighbors(a, n_neighbors=15))
step(
    "cluster_leiden",
    lambda: sc.tl.leiden(a, flavor="igraph", n_iterations=2, directed=False),
)
step("run_umap", lambda: sc.tl.umap(a))
whole = dict(lines[-1], task="pipeline whole")
for key in ("seconds", "cpu"):
    whole[key] = round(sum(line[key] for line in lines), 3)
whole["peak_mb"] = max(line["peak_mb"] for line in lines)
print(json.dumps(whole))
