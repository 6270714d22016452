#!/usr/bin/env python3
"""Writes a larger .h5ad from a generated one, block by block and in minutes.

Every new cell takes the genes before a random position from one cell of the source
and the rest from another cell of the same cluster and donor, so that cells differ
while profiles, effects and density stay those of the source. Chunks are deflated
as the source's are, at gzip level 4.

usage: recombine_h5ad.py SOURCE OUT --cells N [--seed 0]
needs: numpy h5py pandas anndata deflate
"""
import argparse

import deflate
import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem, write_elem

CHUNK = 65536


class Chunks:
    """A one-dimensional data set, written chunk by chunk."""

    def __init__(self, group, name, dtype):
        self.data = group.create_dataset(
            name, shape=(0,), maxshape=(None,), dtype=dtype, chunks=(CHUNK,),
            compression="gzip", compression_opts=4)
        self.rest = np.empty(0, dtype)
        self.written = 0

    def append(self, values):
        values = np.concatenate([self.rest, values.astype(self.rest.dtype)])
        whole = len(values) // CHUNK * CHUNK
        for start in range(0, whole, CHUNK):
            self._write(values[start:start + CHUNK])
        self.rest = values[whole:].copy()

    def finish(self):
        length = self.written + len(self.rest)
        if len(self.rest):
            padded = np.zeros(CHUNK, self.rest.dtype)
            padded[:len(self.rest)] = self.rest
            self._write(padded)
        self.data.resize((length,))

    def _write(self, chunk):
        at = self.written
        self.data.resize((at + CHUNK,))
        packed = bytes(deflate.zlib_compress(chunk.tobytes(), 4))
        self.data.id.write_direct_chunk((at,), packed)
        self.written += CHUNK


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("source")
    ap.add_argument("out")
    ap.add_argument("--cells", type=int, required=True)
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--block", type=int, default=5000)
    a = ap.parse_args()
    rng = np.random.default_rng(a.seed)
    with h5py.File(a.source) as f:
        indptr, indices, data = (f["X"][k][:] for k in ("indptr", "indices", "data"))
        genes = int(f["X"].attrs["shape"][1])
        obs, var = read_elem(f["obs"]), read_elem(f["var"])
    n_source = len(indptr) - 1
    key = obs.groupby(["cluster", "donor"], observed=True).ngroup().to_numpy()
    order = np.argsort(key, kind="stable")
    start = np.searchsorted(key[order], np.arange(key.max() + 2))
    first = rng.integers(0, n_source, a.cells)
    within = key[first]
    second = order[start[within] + rng.integers(0, start[within + 1] - start[within])]
    cut = rng.integers(0, genes, a.cells)
    wide = len(data) / n_source * a.cells > 2**31 - 1
    with h5py.File(a.out, "w") as f:
        f.attrs["encoding-type"], f.attrs["encoding-version"] = "anndata", "0.1.0"
        X = f.create_group("X")
        X.attrs["encoding-type"], X.attrs["encoding-version"] = "csr_matrix", "0.1.0"
        X.attrs["shape"] = np.array([a.cells, genes])
        out_data = Chunks(X, "data", data.dtype)
        out_indices = Chunks(X, "indices", "i8" if wide else "i4")
        length = np.zeros(a.cells, "i8")
        for begin in range(0, a.cells, a.block):
            parts = []
            for i in range(begin, min(begin + a.block, a.cells)):
                lo, hi = indptr[first[i]], indptr[first[i] + 1]
                left = slice(lo, lo + np.searchsorted(indices[lo:hi], cut[i]))
                lo, hi = indptr[second[i]], indptr[second[i] + 1]
                right = slice(lo + np.searchsorted(indices[lo:hi], cut[i]), hi)
                parts += [left, right]
                length[i] = left.stop - left.start + right.stop - right.start
            out_data.append(np.concatenate([data[s] for s in parts]))
            out_indices.append(np.concatenate([indices[s] for s in parts]))
        out_data.finish()
        out_indices.finish()
        X.create_dataset("indptr", data=np.concatenate([[0], np.cumsum(length)]))
        obs = obs.iloc[first].set_index(pd.Index([f"cell{i}" for i in range(a.cells)]))
        write_elem(f, "obs", obs)
        write_elem(f, "var", var)
        for name in ("layers", "obsm", "obsp", "varm", "varp", "uns"):
            write_elem(f, name, {})
    print(f"{a.out}: {a.cells} x {genes}, {length.sum()} stored values")


if __name__ == "__main__":
    main()
