"""Write the small .h5ad files of tests/testthat/fixtures and their manifest.

    python tests/fixtures-src/make_fixtures.py

The version in a file's name is the anndata format it follows. What anndata's
writer cannot be asked for (odd chunks, filters, byte orders, index types) is
written with h5py in the same format. Expected values are those that
`anndata.read_h5ad()` returns; where anndata cannot read a legal file (`"by":
"construction"` in the manifest) they are the values written.

Written with anndata 0.12.19, h5py 3.16.0 (HDF5 2.0.0), hdf5plugin 7.1.0,
numpy 2.2.6, pandas 2.3.3, scipy 1.15.3.
"""

import json
import shutil
import warnings
import zlib
from pathlib import Path

import anndata as ad
import h5py
import hdf5plugin
import numpy as np
import pandas as pd
import scipy.sparse as sp

warnings.filterwarnings("ignore")
ad.settings.allow_write_nullable_strings = True

OUT = Path(__file__).parents[1] / "testthat" / "fixtures"
VERSION = f"anndata-v{ad.__version__}"
SUFFIX = f".{VERSION}.h5ad"
MANIFEST = {"good": {}, "bad": {}}

# 6 x 8 with an empty row and an empty column; its values fit every number type.
SMALL = np.array(
    [
        [0, 1, 0, 0, 2, 0, 0, 100],
        [3, 0, 0, 0, 0, 0, 7, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 5, 1, 0, 0, 9, 0, 0],
        [1, 1, 1, 0, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 0, 42],
    ],
    dtype=np.float64,
)


# ---- the manifest ---------------------------------------------------------------


def number(x):
    """A JSON number; NaN, Inf, -Inf as strings."""
    x = float(x)
    if np.isnan(x):
        return "NaN"
    if np.isinf(x):
        return "Inf" if x > 0 else "-Inf"
    return int(x) if x == int(x) and abs(x) < 2**53 else x


def dense(m):
    return m.toarray() if sp.issparse(m) else np.asarray(m)


def digest(m):
    """Sums that pin a matrix down without listing it."""
    m = dense(m).astype(np.float64)
    i, j = np.indices(m.shape)
    return {
        "sum": number(m.sum()),
        "sum_squares": number((m**2).sum()),
        "weighted_sum": number((m * (i + 1) * (j + 1)).sum()),
        "n_nonzero": int((m != 0).sum()),
        "row_sums": [number(v) for v in m.sum(axis=1)],
        "col_sums": [number(v) for v in m.sum(axis=0)],
    }


def matrix_entry(m, kind, dtype):
    m = dense(m)
    entry = {"kind": kind, "dtype": str(dtype), "shape": list(m.shape)}
    if m.size <= 128:
        entry["values"] = [[number(v) for v in row] for row in m]
    else:
        entry.update(digest(m))
    return entry


def column_entry(s):
    """One column of a data frame as pandas holds it after reading."""
    if isinstance(s.dtype, pd.CategoricalDtype):
        levels = s.cat.categories
        return {
            "type": "ordered" if s.cat.ordered else "factor",
            "dtype": f"category[{levels.dtype}]",
            "levels": [scalar(v) for v in levels],
            "values": [None if c < 0 else int(c) for c in s.cat.codes],
        }
    missing = s.isna().to_numpy()
    kind = str(s.dtype)
    if kind in ("object", "string", "str"):
        values = [None if m else str(v) for v, m in zip(s, missing)]
        return {"type": "string", "dtype": kind, "values": values}
    if kind in ("bool", "boolean"):
        values = ["NA" if m else bool(v) for v, m in zip(s, missing)]
        return {"type": "logical", "dtype": kind, "values": values}
    if kind.startswith("float"):
        return {"type": "double", "dtype": kind, "values": [number(v) for v in s]}
    values = ["NA" if m else int(v) for v, m in zip(s, missing)]
    return {"type": "integer", "dtype": kind, "values": values}


def frame_entry(df):
    return {
        "names": [str(v) for v in df.index],
        "columns": {str(c): column_entry(df[c]) for c in df.columns},
    }


def scalar(v):
    if v is None:
        return None
    if isinstance(v, (bool, np.bool_)):
        return bool(v)
    if isinstance(v, (int, float, np.number)):
        return number(v)
    return str(v)


def uns_entry(v):
    if isinstance(v, dict):
        return {"type": "dict", "values": {k: uns_entry(w) for k, w in v.items()}}
    if isinstance(v, pd.DataFrame):
        return {"type": "dataframe", **frame_entry(v)}
    if isinstance(v, pd.Categorical):
        return column_entry(pd.Series(v))
    if isinstance(v, pd.api.extensions.ExtensionArray):
        return column_entry(pd.Series(v))
    if sp.issparse(v):
        return {"type": "matrix", **matrix_entry(v, f"{v.format}_matrix", v.dtype)}
    if isinstance(v, np.ndarray) and v.dtype.names:
        fields = {n: [scalar(w) for w in v[n]] for n in v.dtype.names}
        return {"type": "rec-array", "fields": fields}
    if isinstance(v, np.ndarray) and v.ndim == 2:
        return {"type": "matrix", **matrix_entry(v, "array", v.dtype)}
    if isinstance(v, np.ndarray):
        return {"type": "array", "dtype": str(v.dtype), "values": [scalar(w) for w in v]}
    return {"type": "null" if v is None else "scalar", "value": scalar(v)}


def kind_on_disk(elem):
    if isinstance(elem, h5py.Dataset):
        return "array", elem.dtype
    return elem.attrs["encoding-type"], elem["data"].dtype


def element_entry(v, elem):
    if isinstance(v, pd.DataFrame):
        return {"kind": "dataframe", **frame_entry(v)}
    return matrix_entry(v, *kind_on_disk(elem))


def read_parts(f):
    """What `anndata.read_h5ad()` would hold, and the layers it cannot read."""
    parts, unreadable = {}, []
    for key in f:
        if key == "layers":
            parts[key] = {}
            for name, elem in f[key].items():
                try:
                    parts[key][name] = ad.io.read_elem(elem)
                    dense(parts[key][name])
                except Exception:
                    unreadable.append(name)
        elif key != "raw":
            parts[key] = ad.io.read_elem(f[key])
    return parts, unreadable


def register(path, note, same_as=None):
    """Enter a good file. `same_as`: the matrix that every layer must equal,
    needed where anndata cannot read a layer."""
    with h5py.File(path) as f:
        parts, unreadable = read_parts(f)
        if unreadable:
            assert same_as is not None
            print(f"{path.name}: anndata cannot read", *unreadable)
            a = ad.AnnData(**parts)
        else:
            a = ad.read_h5ad(path)
        entry = {"note": note, "shape": list(a.shape)}
        entry["X"] = None if a.X is None else matrix_entry(a.X, *kind_on_disk(f["X"]))
        entry["obs"], entry["var"] = frame_entry(a.obs), frame_entry(a.var)
        entry["layers"] = {}
        for key, elem in f.get("layers", {}).items():
            kind, dtype = kind_on_disk(elem)
            if key in unreadable:
                layer = {
                    "kind": kind,
                    "dtype": str(dtype),
                    "same_as": "X",
                    "by": "construction",
                }
            elif same_as is not None and np.array_equal(dense(a.layers[key]), same_as):
                layer = {"kind": kind, "dtype": str(dtype), "same_as": "X"}
            else:
                assert same_as is None, key
                layer = matrix_entry(a.layers[key], kind, dtype)
            entry["layers"][key] = layer
        for slot in ["obsm", "varm", "obsp", "varp"]:
            values = getattr(a, slot)
            entry[slot] = {k: element_entry(values[k], f[slot][k]) for k in values}
        entry["uns"] = {k: uns_entry(v) for k, v in a.uns.items()}
        if a.raw is not None:
            entry["raw"] = {
                "X": matrix_entry(a.raw.X, *kind_on_disk(f["raw/X"])),
                "var": frame_entry(a.raw.var),
                "varm": {
                    k: element_entry(v, f["raw/varm"][k]) for k, v in a.raw.varm.items()
                },
            }
    MANIFEST["good"][path.name] = entry


# ---- writing --------------------------------------------------------------------


def names(n, prefix):
    return pd.Index([f"{prefix}{i + 1}" for i in range(n)])


def path_of(stem):
    return OUT / f"{stem}{SUFFIX}"


def new_file(path, shape, obs=None, var=None, libver=("v108", "v110")):
    """An h5ad file without X."""
    f = h5py.File(path, "w", libver=libver)
    f.attrs["encoding-type"], f.attrs["encoding-version"] = "anndata", "0.1.0"
    obs = pd.DataFrame(index=names(shape[0], "cell")) if obs is None else obs
    var = pd.DataFrame(index=names(shape[1], "gene")) if var is None else var
    ad.io.write_elem(f, "obs", obs)
    ad.io.write_elem(f, "var", var)
    return f


def save(a, path):
    """`write_h5ad()` with the compact groups of HDF5 1.8."""
    with h5py.File(path, "w", libver=("v108", "v110")) as f:
        ad.io.write_elem(f, "/", a)


def mapping(f, key):
    g = f.create_group(key)
    g.attrs["encoding-type"], g.attrs["encoding-version"] = "dict", "0.1.0"
    return g


def write_sparse(
    f,
    key,
    m,
    data=None,
    indices=None,
    indptr=None,
    dtype=None,
    index_dtype=None,
    indptr_dtype=None,
):
    """A sparse matrix; `data`, `indices`, `indptr` are h5py dataset options."""
    g = f.create_group(key)
    g.attrs["encoding-type"] = f"{m.format}_matrix"
    g.attrs["encoding-version"] = "0.1.0"
    g.attrs["shape"] = np.array(m.shape, dtype=np.int64)
    index_dtype = index_dtype or np.int32
    parts = {
        "data": (m.data.astype(dtype or m.dtype), data),
        "indices": (m.indices.astype(index_dtype), indices),
        "indptr": (m.indptr.astype(indptr_dtype or index_dtype), indptr),
    }
    for name, (values, options) in parts.items():
        create(g, name, values, options)
    return g


def write_dense(f, key, m, options=None, dtype=None):
    values = m.astype(dtype or m.dtype)
    bool_like = values.dtype == bool
    d = create(f, key, values, options)
    d.attrs["encoding-type"], d.attrs["encoding-version"] = "array", "0.2.0"
    assert not bool_like or d.dtype == bool
    return d


def create(g, name, values, options=None):
    """A dataset with h5py options, and some of our own: `compact` layout,
    `early` allocation, and `masked`: chunk number -> (filter mask, bytes)."""
    options = dict(options or {})
    if options.pop("compact", False):
        return low_level(g, name, values, lambda p: p.set_layout(h5py.h5d.COMPACT))
    if options.pop("early", False):
        chunks = options["chunks"]

        def prepare(p):
            p.set_chunk(chunks)
            p.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)

        return low_level(g, name, values, prepare)
    masked = options.pop("masked", {})
    if "chunks" in options and any(c > s for c, s in zip(options["chunks"], values.shape)):
        options["maxshape"] = (None,) * values.ndim
    d = g.create_dataset(name, data=values, **options)
    step = options.get("chunks")
    for k, (mask, encode) in masked.items():
        chunk = np.zeros(step, values.dtype)
        part = values[k * step[0] : (k + 1) * step[0]]
        chunk[tuple(slice(0, s) for s in part.shape)] = part
        start = (k * step[0],) + (0,) * (values.ndim - 1)
        d.id.write_direct_chunk(start, encode(chunk), filter_mask=mask)
    return d


def low_level(g, name, values, prepare):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    prepare(plist)
    d = h5py.h5d.create(
        g.id,
        name.encode(),
        h5py.h5t.py_create(values.dtype, logical=True),
        h5py.h5s.create_simple(values.shape),
        dcpl=plist,
    )
    d.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ascontiguousarray(values))
    return h5py.Dataset(d)


def shuffle_bytes(a):
    raw = np.frombuffer(a.tobytes(), np.uint8).reshape(-1, a.dtype.itemsize)
    return raw.T.tobytes()


# ---- number types ---------------------------------------------------------------

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float32", "float64"]
BIG_ENDIAN = [">i2", ">i4", ">i8", ">u4", ">f4", ">f8"]
KEY = {
    ">i2": "int16_be",
    ">i4": "int32_be",
    ">i8": "int64_be",
    ">u4": "uint32_be",
    ">f4": "float32_be",
    ">f8": "float64_be",
}


def number_types():
    for form, maker in [("csr", sp.csr_matrix), ("csc", sp.csc_matrix)]:
        path = path_of(f"{form}-dtypes")
        with new_file(path, SMALL.shape) as f:
            write_sparse(f, "X", maker(SMALL), dtype=np.float32)
            layers = mapping(f, "layers")
            for t in INTEGERS + FLOATS:
                write_sparse(layers, t, maker(SMALL), dtype=t)
            for t in BIG_ENDIAN:
                write_sparse(layers, KEY[t], maker(SMALL), dtype=t)
            write_sparse(layers, "float16", maker(SMALL), dtype="<f2")
        register(path, f"{form}: every number type holds the same matrix", SMALL)

    path = path_of("dense-dtypes")
    with new_file(path, SMALL.shape) as f:
        write_dense(f, "X", SMALL, dtype=np.float32)
        layers = mapping(f, "layers")
        for t in INTEGERS + FLOATS + ["float16"]:
            write_dense(layers, t, SMALL, dtype=t)
        for t in BIG_ENDIAN + [">f2"]:
            write_dense(layers, KEY.get(t, "float16_be"), SMALL, dtype=t)
    register(path, "dense: every number type holds the same matrix", SMALL)

    path = path_of("bool")
    with new_file(path, SMALL.shape) as f:
        write_sparse(f, "X", sp.csr_matrix(SMALL > 0), dtype=bool)
        layers = mapping(f, "layers")
        write_sparse(layers, "csc", sp.csc_matrix(SMALL > 0), dtype=bool)
        write_dense(layers, "dense", SMALL > 0)
    register(path, "boolean matrices (an HDF5 enum)")

    wide = np.zeros((3, 4))
    path = path_of("extreme-numbers")
    with new_file(path, wide.shape) as f:
        x = wide.copy()
        x[0] = [1e308, -1e308, 5e-324, 2.2250738585072014e-308]
        x[1] = [np.pi, -0.0, 1 / 3, 2**53 + 2]
        write_dense(f, "X", x)
        layers = mapping(f, "layers")
        limits = {
            "int8": [-128, 127],
            "int16": [-32768, 32767],
            "int32": [-(2**31), 2**31 - 1],
            "int64": [-(2**63), 2**63 - 1],
            "uint8": [255, 1],
            "uint16": [65535, 1],
            "uint32": [2**32 - 1, 1],
            "uint64": [2**64 - 1, 2**53 + 1],
        }
        for t, values in limits.items():
            m = np.zeros(wide.shape, dtype=t)
            m[0, :2] = np.array(values, dtype=t)
            write_dense(layers, t, m)
        m = np.zeros(wide.shape, dtype=np.float16)
        m[0] = [65504, -65504, 6e-8, 0.333251953125]
        m[1] = [np.inf, -np.inf, np.nan, -1.5]
        write_dense(layers, "float16", m)
        m = np.zeros(wide.shape, dtype=np.float32)
        m[0] = [3.4028234663852886e38, 1e-45, 0.1, 16777217]
        write_dense(layers, "float32", m)
    register(path, "limits of every number type, as float64")

    path = path_of("nonfinite")
    x = SMALL.copy()
    x[0, 1], x[1, 0], x[3, 5], x[4, 4] = np.nan, np.inf, -np.inf, -2.5
    with new_file(path, x.shape) as f:
        write_sparse(f, "X", sp.csr_matrix(x), dtype=np.float32)
        layers = mapping(f, "layers")
        write_sparse(layers, "csc", sp.csc_matrix(x))
        write_dense(layers, "dense", x)
        write_sparse(layers, "negative", sp.csr_matrix(-SMALL), dtype=np.int32)
        write_sparse(layers, "fractions", sp.csr_matrix(SMALL / 3))
    register(path, "NaN, Inf, negative values and fractions")


# ---- index types ----------------------------------------------------------------


def index_types():
    csr = sp.csr_matrix(SMALL).astype(np.float32)
    path = path_of("indices")
    with new_file(path, SMALL.shape) as f:
        write_sparse(f, "X", csr)
        layers = mapping(f, "layers")
        for i, p in [
            ("int32", "int64"),
            ("int64", "int32"),
            ("int64", "int64"),
            ("uint32", "uint64"),
            ("uint8", "uint8"),
            ("int16", "int32"),
            (">i4", ">i8"),
        ]:
            key = f"indices_{i}_indptr_{p}".replace(">i4", "int32be").replace(
                ">i8", "int64be"
            )
            write_sparse(layers, key, csr, index_dtype=i, indptr_dtype=p)
        csc = sp.csc_matrix(csr)
        write_sparse(layers, "csc_int64", csc, index_dtype="int64")
        write_sparse(layers, "csc_indices_int32_indptr_int64", csc, indptr_dtype="int64")
        for key, m in [("unsorted", csr.copy()), ("csc_unsorted", csc.copy())]:
            for k in range(len(m.indptr) - 1):
                part = slice(m.indptr[k], m.indptr[k + 1])
                m.indices[part] = m.indices[part][::-1].copy()
                m.data[part] = m.data[part][::-1].copy()
            write_sparse(layers, key, m)
        stored = np.abs(SMALL) > 0
        stored[2, 3] = stored[0, 0] = stored[5, 6] = stored[4, 3] = True
        for key, maker in [
            ("explicit_zeros", sp.csr_matrix),
            ("csc_explicit_zeros", sp.csc_matrix),
        ]:
            m = maker(stored.astype(np.float32))
            m.data = dense_at(SMALL, m).astype(np.float32)
            assert (m.data == 0).sum() == 4
            write_sparse(layers, key, m)
    register(path, "index types, order of indices, explicit zeros", SMALL)

    path = path_of("duplicate-entries")
    m = sp.csr_matrix(
        (
            np.array([1, 2, 3, 4, 5], np.float32),
            np.array([0, 0, 2, 1, 1]),
            np.array([0, 3, 5]),
        ),
        shape=(2, 3),
    )
    with new_file(path, m.shape) as f:
        write_sparse(f, "X", m)
    register(path, "the same position stored twice: anndata adds the values up")


def dense_at(values, m):
    coo = m.tocoo()
    return values[coo.row, coo.col]


# ---- storage --------------------------------------------------------------------

ZSTD, LZ4 = dict(hdf5plugin.Zstd()), dict(hdf5plugin.LZ4())
FILTERS = {
    "gzip": {"compression": "gzip"},
    "gzip_9": {"compression": "gzip", "compression_opts": 9},
    "gzip_shuffle": {"compression": "gzip", "shuffle": True},
    "gzip_fletcher32": {"compression": "gzip", "fletcher32": True},
    "gzip_shuffle_fletcher32": {"compression": "gzip", "shuffle": True, "fletcher32": True},
    "lzf": {"compression": "lzf"},
    "lzf_shuffle": {"compression": "lzf", "shuffle": True},
    "zstd": ZSTD,
    "zstd_shuffle": {**ZSTD, "shuffle": True},
    "lz4": LZ4,
    "lz4_shuffle": {**LZ4, "shuffle": True},
    "shuffle": {"shuffle": True},
    "fletcher32": {"fletcher32": True},
    "none": {},
}


def storage_matrix(rng, shape=(30, 20), density=0.35):
    m = rng.poisson(6, shape) + 1.0
    m[rng.random(shape) > density] = 0
    m[4] = 0
    m[:, 7] = 0
    return m


def csr_storage(layers, m):
    gz = FILTERS["gzip"]
    write_sparse(layers, "gzip_indptr", m, gz, gz, {**gz, "chunks": (8,)})
    write_sparse(layers, "chunks_7", m, *[{**gz, "chunks": (7,)}] * 2)
    write_sparse(layers, "chunks_1024", m, *[{**gz, "chunks": (1024,)}] * 2)
    write_sparse(layers, "data_gzip_indices_contiguous", m, {**gz, "chunks": (50,)})
    write_sparse(
        layers,
        "data_lzf_indices_zstd",
        m,
        {**FILTERS["lzf"], "chunks": (33,)},
        {**ZSTD, "chunks": (40,)},
    )
    write_sparse(
        layers,
        "resizable",
        m,
        {**gz, "chunks": (16,), "maxshape": (None,)},
        {**gz, "chunks": (16,), "maxshape": (None,)},
    )
    write_sparse(
        layers,
        "big_endian_gzip_shuffle",
        m,
        *[{**FILTERS["gzip_shuffle"], "chunks": (40,)}] * 2,
        dtype=">f4",
        index_dtype=">i4",
    )
    plain = {0: (1, lambda c: c.tobytes()), 2: (1, lambda c: c.tobytes())}
    write_sparse(layers, "mask_gzip", m, *[{**gz, "chunks": (32,), "masked": plain}] * 2)
    # Filters are shuffle (bit 0) and gzip (bit 1).
    some = {
        0: (1, lambda c: zlib.compress(c.tobytes())),
        1: (2, shuffle_bytes),
        2: (3, lambda c: c.tobytes()),
    }
    write_sparse(
        layers,
        "mask_shuffle_gzip",
        m,
        *[{**FILTERS["gzip_shuffle"], "chunks": (32,), "masked": some}] * 2,
    )
    write_sparse(
        layers,
        "scaleoffset",
        m,
        {"chunks": (64,), "scaleoffset": 0},
        {"chunks": (64,), "scaleoffset": 0},
        dtype=np.int32,
    )


def sparse_storage(rng):
    values = storage_matrix(rng)
    for form, maker in [("csr", sp.csr_matrix), ("csc", sp.csc_matrix)]:
        m = maker(values).astype(np.float32)
        nnz = m.nnz
        path = path_of(f"{form}-storage")
        with new_file(path, values.shape) as f:
            write_sparse(f, "X", m)
            layers = mapping(f, "layers")
            filters = (
                FILTERS
                if form == "csr"
                else {k: FILTERS[k] for k in ["gzip", "lzf_shuffle", "none"]}
            )
            for key, options in filters.items():
                options = {**options, "chunks": (64,)}
                write_sparse(layers, key, m, options, options)
            gz = FILTERS["gzip"]
            write_sparse(
                layers, "chunks_7_11", m, {**gz, "chunks": (7,)}, {**gz, "chunks": (11,)}
            )
            write_sparse(layers, "chunks_one", m, *[{**gz, "chunks": (nnz,)}] * 2)
            write_sparse(layers, "compact", m, *[{"compact": True}] * 3)
            if form == "csr":
                csr_storage(layers, m)
        register(
            path, f"{form}: every chunk layout and filter holds the same matrix", values
        )

        path = path_of(f"{form}-fill-value")
        half = m.copy()
        half.data[64:128] = 3
        with new_file(path, values.shape) as f:
            g = write_sparse(f, "X", half)
            data = half.data.copy()
            del g["data"]
            d = g.create_dataset(
                "data",
                shape=data.shape,
                dtype=np.float32,
                chunks=(64,),
                compression="gzip",
                fillvalue=3,
            )
            d[:64], d[128:] = data[:64], data[128:]
        register(
            path, f"{form}: the second chunk of data was never written, its fill value is 3"
        )

    m = sp.csr_matrix(values).astype(np.float32)
    path = path_of("chunk-indexes")
    with new_file(path, values.shape, libver=("v110", "v110")) as f:
        write_sparse(f, "X", m)
        layers = mapping(f, "layers")
        gz = FILTERS["gzip"]
        write_sparse(layers, "single", m, *[{**gz, "chunks": (m.nnz,)}] * 2)
        write_sparse(layers, "fixed_array", m, *[{**gz, "chunks": (7,)}] * 2)
        write_sparse(layers, "fixed_array_plain", m, *[{"chunks": (7,)}] * 2)
        grow = {"chunks": (7,), "maxshape": (None,)}
        write_sparse(layers, "extensible_array", m, *[{**gz, **grow}] * 2)
        write_sparse(layers, "implicit", m, *[{"chunks": (7,), "early": True}] * 2)
        write_dense(
            layers, "btree2", values, {**gz, "chunks": (7, 5), "maxshape": (None, None)}
        )
    register(path, "the chunk indexes of HDF5 1.10 (libver v110)", values)


def dense_storage(rng):
    values = storage_matrix(rng).astype(np.float32)
    n, p = values.shape
    path = path_of("dense-storage")
    with new_file(path, values.shape, libver=("earliest", "v110")) as f:
        write_dense(f, "X", values)
        layers = mapping(f, "layers")
        for key, options in FILTERS.items():
            write_dense(layers, f"{key}_7x5", values, {**options, "chunks": (7, 5)})
        gz = FILTERS["gzip"]
        write_dense(layers, "gzip_rows", values, {**gz, "chunks": (1, p)})
        write_dense(layers, "gzip_columns", values, {**gz, "chunks": (n, 1)})
        write_dense(layers, "gzip_one", values, {**gz, "chunks": (n, p)})
        write_dense(layers, "gzip_64x64", values, {**gz, "chunks": (64, 64)})
        write_dense(layers, "gzip_int32", values, {**gz, "chunks": (11, 3)}, dtype=np.int32)
        write_dense(
            layers,
            "gzip_shuffle_be",
            values,
            {**FILTERS["gzip_shuffle"], "chunks": (6, 20)},
            dtype=">f8",
        )
        write_dense(layers, "compact", values, {"compact": True})
        write_dense(
            layers, "fortran_order", np.asfortranarray(values), {**gz, "chunks": (8, 8)}
        )
        plain = {0: (1, lambda c: c.tobytes()), 1: (1, lambda c: c.tobytes())}
        write_dense(layers, "mask_gzip", values, {**gz, "chunks": (10, p), "masked": plain})
        write_dense(
            layers,
            "scaleoffset",
            values,
            {"chunks": (7, 5), "scaleoffset": 0},
            dtype=np.int32,
        )
    register(path, "dense: every chunk layout and filter holds the same matrix", values)

    path = path_of("dense-fill-value")
    with new_file(path, SMALL.shape) as f:
        d = f.create_dataset(
            "X",
            shape=SMALL.shape,
            dtype=np.float32,
            chunks=(2, 3),
            compression="gzip",
            fillvalue=2.5,
        )
        d.attrs["encoding-type"], d.attrs["encoding-version"] = "array", "0.2.0"
        d[:2] = SMALL[:2]
    register(path, "dense: rows 3 to 6 were never written, the fill value is 2.5")


# ---- obs and var ----------------------------------------------------------------


def columns():
    n = 6
    words = np.array(["alpha", "", "β-cell", "日本", "NA", "a b%s"], dtype=object)
    obs = pd.DataFrame(index=pd.Index(["c1", "c2", "ç3", "cell 4", "c%s", "c/6"]))
    obs["string"] = words
    obs["factor"] = pd.Categorical(
        ["b", "a", None, "b", "c", "a"], categories=["c", "b", "a", "unused"]
    )
    obs["ordered"] = pd.Categorical(
        ["low", "high", "low", None, "mid", "high"], ["low", "mid", "high"], ordered=True
    )
    obs["factor_int"] = pd.Categorical([3, 1, 2, 3, 1, 1])
    obs["factor_float"] = pd.Categorical([0.5, 1.25, 0.5, np.nan, 1.25, 0.5])
    obs["factor_bool"] = pd.Categorical([True, False, True, True, None, False])
    obs["factor_all_missing"] = pd.Categorical([None] * n, categories=["x"])
    obs["factor_unicode"] = pd.Categorical(["é", "", "é", "", "ü", "é"])
    obs["factor_many"] = pd.Categorical(
        [f"l{i}" for i in [5, 130, 7, 5, 299, 0]], [f"l{i}" for i in range(300)]
    )
    obs["nullable_int"] = pd.array([1, None, 3, -4, 2**31, None], dtype="Int64")
    obs["nullable_int8"] = pd.array([1, None, 3, -4, 5, 6], dtype="Int8")
    obs["nullable_uint8"] = pd.array([1, 2, 255, None, 5, 6], dtype="UInt8")
    obs["nullable_int_full"] = pd.array([1, 2, 3, 4, 5, 6], dtype="Int32")
    obs["nullable_bool"] = pd.array([True, None, False, True, None, False], dtype="boolean")
    obs["nullable_string"] = pd.array(["x", None, "", "NA", "ü", None], dtype="string")
    for t in INTEGERS:
        obs[t] = np.arange(n).astype(t)
    obs["int64_large"] = np.array([2**53, -(2**53), 2**31, 0, 1, -1])
    obs["int32_limits"] = np.array(
        [2**31 - 1, -(2**31), -(2**31) + 1, 0, 1, -1], dtype=np.int32
    )
    obs["float32"] = np.array([0.5, np.nan, np.inf, -np.inf, 1e-30, 3], dtype=np.float32)
    obs["float64"] = np.array([1 / 3, np.nan, np.inf, -np.inf, 5e-324, 1e308])
    obs["float16"] = np.array([0.5, np.nan, 2, 3, 4, 65504], dtype=np.float16)
    obs["bool"] = np.array([True, False, True, True, False, False])
    obs["name with space"] = np.arange(n) * 1.5
    obs["größe"] = np.arange(n) * 2
    obs["%s"] = words[::-1]
    var = pd.DataFrame({"gene_ids": [f"ENSG{i:03d}" for i in range(8)]})
    var.index = pd.Index([f"gene{i + 1}" for i in range(8)], name="symbol")
    var["highly_variable"] = np.arange(8) % 3 == 0
    a = ad.AnnData(sp.csr_matrix(SMALL.astype(np.float32)), obs=obs, var=var)
    path = path_of("columns")
    save(a, path)
    register(path, "every column encoding of a data frame; the index of var is named")

    path = path_of("columns-by-hand")
    with new_file(
        path,
        SMALL.shape,
        obs=pd.DataFrame({"z": [1] * 6, "a": [2] * 6}, index=names(6, "cell")),
    ) as f:
        write_sparse(f, "X", sp.csr_matrix(SMALL), dtype=np.float32)
        g = f["obs"]
        order = [
            "z",
            "fixed_ascii",
            "fixed_utf8",
            "vlen_ascii",
            "gzip_strings",
            "codes_int64",
            "codes_uint8",
            "null_padded",
            "be_int",
            "gzip_numbers",
            "a",
        ]
        g.attrs["column-order"] = np.array(order, dtype=object)
        text = ["a", "bb", "", "dddd", "e e", "f"]
        accents = ["é", "bb", "", "日本", "e e", "f"]

        def strings(key, dtype, text=text, **options):
            fixed = dtype.kind == "S"
            values = np.array([t.encode() for t in text] if fixed else text, dtype=dtype)
            d = g.create_dataset(key, data=values, dtype=dtype, **options)
            d.attrs["encoding-type"], d.attrs["encoding-version"] = "string-array", "0.2.0"

        strings("fixed_ascii", h5py.string_dtype("ascii", 4))
        strings("fixed_utf8", h5py.string_dtype("utf-8", 12), accents)
        strings("null_padded", h5py.string_dtype("ascii", 9))
        strings("vlen_ascii", h5py.string_dtype("ascii"))
        strings("gzip_strings", h5py.string_dtype(), compression="gzip", chunks=(4,))
        for key, t in [("codes_int64", np.int64), ("codes_uint8", np.uint8)]:
            c = g.create_group(key)
            c.attrs["encoding-type"], c.attrs["encoding-version"] = "categorical", "0.2.0"
            c.attrs["ordered"] = False
            c.create_dataset("codes", data=np.array([0, 1, 1, 0, 1, 0], dtype=t))
            ad.io.write_elem(c, "categories", np.array(["x", "y"], dtype=object))
        for key, values, options in [
            ("be_int", np.arange(6).astype(">i4"), {}),
            ("gzip_numbers", np.arange(6) / 4, {"compression": "gzip", "chunks": (4,)}),
        ]:
            d = g.create_dataset(key, data=values, **options)
            d.attrs["encoding-type"], d.attrs["encoding-version"] = "array", "0.2.0"
    register(
        path, "string storage, code types, byte order; columns out of alphabetical order"
    )

    path = path_of("duplicate-names")
    a = ad.AnnData(
        SMALL.astype(np.float32),
        obs=pd.DataFrame(index=list("aabcdd")),
        var=pd.DataFrame(index=["g", "g", "h", "i", "g", "j", "k", "h"]),
    )
    save(a, path)
    register(path, "names of cells and genes that repeat")


# ---- the other slots ------------------------------------------------------------


def containers(rng):
    n, p = SMALL.shape
    a = ad.AnnData(
        sp.csr_matrix(SMALL.astype(np.float32)),
        obs=pd.DataFrame(
            {"cluster": pd.Categorical(list("ababab"))}, index=names(n, "cell")
        ),
        var=pd.DataFrame(index=names(p, "gene")),
    )
    wide = ad.AnnData(
        sp.csr_matrix(np.hstack([SMALL, SMALL[:, :3] * 2]).astype(np.float32)),
        obs=a.obs,
        var=pd.DataFrame(
            {"kept": [True] * p + [False] * 3}, index=[*a.var_names, "raw1", "raw2", "raw3"]
        ),
    )
    wide.varm["loadings"] = np.arange(22.0).reshape(11, 2)
    a.raw = wide
    a.layers["counts"] = sp.csc_matrix(SMALL.astype(np.int32))
    a.layers["dense"] = SMALL / 2
    a.obsm["X_pca"] = np.round(rng.normal(size=(n, 3)), 6)
    a.obsm["X_umap"] = np.round(rng.normal(size=(n, 2)), 3).astype(np.float32)
    a.obsm["one_column"] = np.arange(n, dtype=np.float64).reshape(n, 1)
    a.obsm["csr"] = sp.csr_matrix(SMALL[:, :3])
    a.obsm["csc"] = sp.csc_matrix(SMALL[:, :3])
    a.obsm["frame"] = pd.DataFrame(
        {"protein": np.arange(n) * 0.5, "kind": pd.Categorical(list("xxyyxy"))},
        index=a.obs_names,
    )
    a.varm["PCs"] = np.round(rng.normal(size=(p, 3)), 6)
    graph = sp.csr_matrix(np.round(SMALL[:, :6] / 7, 4))
    a.obsp["connectivities"] = graph
    a.obsp["distances"] = sp.csr_matrix(SMALL[:, 1:7])
    a.obsp["dense"] = SMALL[:, :6]
    a.varp["correlation"] = np.eye(p)
    a.uns = {
        "string": "text with ü",
        "empty_string": "",
        "integer": 42,
        "float": 0.1,
        "not_a_number": float("nan"),
        "bool": True,
        "null": None,
        "strings": np.array(["a", "", "ç"], dtype=object),
        "cluster_colors": np.array(["#1f77b4", "#ff7f0e"], dtype=object),
        "integers": np.array([1, 2, 3]),
        "floats": np.array([0.5, np.nan, np.inf]),
        "bools": np.array([True, False]),
        "empty_array": np.array([], dtype=np.float64),
        "empty_dict": {},
        "matrix": np.arange(6.0).reshape(2, 3),
        "sparse": sp.csr_matrix(SMALL[:2]),
        "factor": pd.Categorical(["u", "v", "u"]),
        "nullable_int": pd.array([1, None], dtype="Int64"),
        "nested": {
            "params": {"n_neighbors": 15, "method": "umap", "deep": {"er": [1.5, 2.5]}}
        },
        "frame": pd.DataFrame({"x": [1, 2], "y": ["a", "b"]}, index=["r1", "r2"]),
        "rank_genes_groups": {
            "params": {"groupby": "cluster", "method": "wilcoxon", "use_raw": False},
            "names": np.rec.fromarrays(
                [
                    np.array(["gene1", "gene2"], dtype=object),
                    np.array(["gene8", "gene7"], dtype=object),
                ],
                names=["a", "b"],
            ),
            "scores": np.rec.fromarrays(
                [np.array([3.5, 1.25], np.float32), np.array([2.5, -1], np.float32)],
                names=["a", "b"],
            ),
        },
    }
    path = path_of("containers")
    save(a, path)
    register(path, "layers, obsm, varm, obsp, varp, uns and raw")

    path = path_of("unread")
    shutil.copy(path_of("columns-by-hand"), path)
    with h5py.File(path, "a") as f:
        f["obs/a"].attrs["encoding-type"] = "from-the-future"
        g = mapping(f, "obsm").create_group("awkward")
        g.attrs["encoding-type"], g.attrs["encoding-version"] = "awkward-array", "0.1.0"
        g.attrs["form"], g.attrs["length"] = "{}", 6
        g = mapping(f, "uns").create_group("odd")
        g.attrs["encoding-type"], g.attrs["encoding-version"] = "from-the-future", "9.9.9"
        f["uns"].create_dataset("plain", data=1.5)
        g = mapping(f, "layers").create_group("odd")
        g.attrs["encoding-type"], g.attrs["encoding-version"] = "coo_matrix", "0.1.0"
    known = MANIFEST["good"][path_of("columns-by-hand").name]
    obs = {
        **known["obs"],
        "columns": {k: v for k, v in known["obs"]["columns"].items() if k != "a"},
    }
    MANIFEST["good"][path.name] = {
        **known,
        "obs": obs,
        "by": "construction",
        "note": "opens; four elements cannot be read and must be listed as such",
        "unread": ["obs/a", "obsm/awkward", "uns/odd", "layers/odd"],
        "uns": {"plain": {"type": "scalar", "value": 1.5}},
    }


# ---- edges ----------------------------------------------------------------------


def edges():
    def write(stem, x, note):
        a = ad.AnnData(
            x,
            obs=pd.DataFrame(index=names(x.shape[0], "cell")),
            var=pd.DataFrame(index=names(x.shape[1], "gene")),
        )
        a.obs["group"] = pd.Categorical(["a"] * x.shape[0], categories=["a", "b"])
        a.layers["csc"] = sp.csc_matrix(x)
        a.layers["dense"] = dense(x)
        path = path_of(stem)
        save(a, path)
        register(path, note)

    f32 = lambda x: sp.csr_matrix(np.asarray(x, dtype=np.float32))
    write("no-cells", f32(np.zeros((0, 8))), "0 cells x 8 genes")
    write("no-genes", f32(np.zeros((6, 0))), "6 cells x 0 genes")
    write("no-values", f32(np.zeros((6, 8))), "6 x 8 without a stored value")
    write("one-cell", f32(SMALL[:1]), "1 cell x 8 genes")
    write("one-gene", f32(SMALL[:, 1:2]), "6 cells x 1 gene")

    a = ad.AnnData(
        obs=pd.DataFrame({"n": np.arange(6)}, index=names(6, "cell")),
        var=pd.DataFrame(index=names(8, "gene")),
    )
    a.layers["counts"] = sp.csr_matrix(SMALL)
    path = path_of("no-x")
    save(a, path)
    register(path, "X is absent, a layer is there")


# ---- a larger matrix for the engine ---------------------------------------------


def engine(rng):
    n, p = 300, 200
    level = rng.lognormal(-2.3, 1.2, p)
    group = rng.choice(["a", "b", "c", "d"], n, p=[0.5, 0.3, 0.15, 0.05])
    shift = {g: np.exp(rng.normal(0, 0.7, p) * (rng.random(p) < 0.2)) for g in "abcd"}
    mean = np.array([level * shift[g] for g in group]) * rng.lognormal(0, 0.4, (n, 1))
    x = rng.poisson(mean).astype(np.float32)
    x[17], x[:, 31] = 0, 0
    obs = pd.DataFrame(
        {
            "group": pd.Categorical(group),
            "donor": pd.Categorical(rng.choice(["d1", "d2", "d3"], n)),
        },
        index=names(n, "cell"),
    )
    var = pd.DataFrame(index=[f"MT-{i + 1}" if i < 5 else f"gene{i + 1}" for i in range(p)])
    gz = FILTERS["gzip"]
    for form in ["csr", "csc", "dense"]:
        path = path_of(f"engine-{form}")
        with new_file(path, x.shape, obs, var) as f:
            if form == "dense":
                write_dense(f, "X", x, {**gz, "chunks": (37, 41)})
            else:
                m = (sp.csr_matrix if form == "csr" else sp.csc_matrix)(x)
                write_sparse(f, "X", m, {**gz, "chunks": (256,)}, {**gz, "chunks": (400,)})
        register(path, "300 x 200 counts, small chunks; the same matrix in three files")


# ---- files that must fail -------------------------------------------------------


def bad_files():
    folder = OUT / "bad"
    folder.mkdir()

    def bad(stem, where, why):
        name = f"{stem}.h5ad"
        MANIFEST["bad"][f"bad/{name}"] = {"fails_at": where, "why": why}
        return folder / name

    def csr(path, change=None, shape=SMALL.shape):
        m = sp.csr_matrix(SMALL).astype(np.float32)
        with new_file(path, shape) as f:
            write_sparse(f, "X", m)
            if change is not None:
                change(f)
        return path

    def replace(f, key, values):
        attrs = dict(f[key].attrs)
        del f[key]
        f[key] = values
        for k, v in attrs.items():
            f[key].attrs[k] = v

    def put(key, position, value):
        def change(f):
            values = f[key][:]
            values[position] = value
            replace(f, key, values)

        return change

    bad("empty-file", "open", "no bytes").write_bytes(b"")
    bad("plain-text", "open", "not HDF5").write_text("cell,gene1,gene2\nc1,0,1\n")
    whole = csr(folder / "whole.h5ad").read_bytes()
    (folder / "whole.h5ad").unlink()
    bad("truncated", "open", "the second half is missing").write_bytes(
        whole[: len(whole) // 2]
    )
    with h5py.File(bad("not-anndata", "open", "HDF5 without obs and var"), "w") as f:
        f["matrix/data"] = np.arange(5)
    csr(bad("no-obs", "open", "obs is missing"), lambda f: f.__delitem__("obs"))
    csr(
        bad("no-index", "open", "obs has no index"),
        lambda f: f["obs"].__delitem__("_index"),
    )

    csr(bad("x-rows", "open", "X has 6 rows, obs 7"), shape=(7, 8))
    csr(bad("x-columns", "open", "X has 8 columns, var 9"), shape=(6, 9))
    csr(
        bad("x-encoding", "X", "X has an unknown encoding"),
        lambda f: f["X"].attrs.__setitem__("encoding-type", "awkward-array"),
    )
    csr(
        bad("no-shape", "X", "X has no shape attribute"),
        lambda f: f["X"].attrs.__delitem__("shape"),
    )
    csr(bad("no-indices", "X", "X has no indices"), lambda f: f["X"].__delitem__("indices"))
    csr(
        bad("index-too-large", "X", "a column index equals the number of genes"),
        put("X/indices", 3, 8),
    )
    csr(bad("index-negative", "X", "a column index is -1"), put("X/indices", 3, -1))
    csr(
        bad("indptr-decreasing", "X", "indptr falls in the second row"),
        put("X/indptr", 2, 2),
    )
    csr(bad("indptr-start", "X", "indptr starts at 1"), put("X/indptr", 0, 1))
    csr(
        bad("indptr-past-end", "X", "indptr ends after the last value"),
        put("X/indptr", 6, 1000),
    )
    csr(
        bad("indptr-length", "X", "indptr has 6 entries instead of 7"),
        lambda f: replace(f, "X/indptr", f["X/indptr"][:-1]),
    )
    csr(
        bad("data-length", "X", "data is shorter than indices"),
        lambda f: replace(f, "X/data", f["X/data"][:-2]),
    )
    csr(
        bad("string-data", "X", "X holds strings"),
        lambda f: replace(f, "X/data", np.array(["a"] * f["X/data"].size, dtype="S1")),
    )
    csr(
        bad("huge-shape", "open", "X claims 2^40 rows"),
        lambda f: f["X"].attrs.__setitem__("shape", np.array([2**40, 8])),
    )

    def column(values):
        def change(f):
            f["obs"].attrs["column-order"] = np.array(["x"], dtype=object)
            ad.io.write_elem(f["obs"], "x", values)

        return change

    csr(
        bad("column-length", "obs/x", "a column of obs has 4 values for 6 cells"),
        column(np.arange(4)),
    )

    def missing_column(f):
        f["obs"].attrs["column-order"] = np.array(["x"], dtype=object)

    csr(
        bad("column-missing", "obs/x", "column-order names a column that is not there"),
        missing_column,
    )

    def bad_codes(f):
        column(pd.Categorical(list("ababab")))(f)
        f["obs/x/codes"][2] = 7

    csr(bad("codes-out-of-range", "obs/x", "a category code has no category"), bad_codes)

    def bad_layer(f):
        write_dense(mapping(f, "layers"), "x", SMALL[:5])

    csr(bad("layer-shape", "layers/x", "a layer has 5 rows for 6 cells"), bad_layer)

    def damaged(stem, why, options, damage):
        path = bad(stem, "X", why)
        m = sp.csr_matrix(SMALL).astype(np.float32)
        with new_file(path, SMALL.shape) as f:
            g = write_sparse(f, "X", m, {**options, "chunks": (8,)})
            info = g["data"].id.get_chunk_info(1)
        raw = bytearray(path.read_bytes())
        damage(raw, info.byte_offset, info.size)
        path.write_bytes(bytes(raw))

    def zero(raw, at, size):
        raw[at : at + size] = bytes(size)

    def flip(raw, at, size):
        raw[at + 5] ^= 0xFF

    damaged(
        "damaged-gzip",
        "the second chunk of data is not a zlib stream",
        FILTERS["gzip"],
        zero,
    )
    damaged(
        "damaged-lzf",
        "the second chunk of data is not lzf",
        {"compression": "lzf"},
        lambda raw, at, size: raw.__setitem__(slice(at, at + size), b"\xff" * size),
    )
    damaged(
        "damaged-fletcher32",
        "a byte of the second chunk was flipped",
        FILTERS["fletcher32"],
        flip,
    )

    path = bad(
        "filter-blosc", "X", "blosc needs a plugin of libhdf5; the error names the filter"
    )
    with new_file(path, (20, 30)) as f:
        g = write_sparse(
            f,
            "X",
            sp.csr_matrix(np.ones((20, 30), np.float32)),
            {**hdf5plugin.Blosc(), "chunks": (300,)},
        )
        # blosc skips chunks that it cannot shrink; these must be its own.
        assert g["data"].id.get_chunk_info(0).filter_mask == 0


def main():
    for old in OUT.glob(f"*{SUFFIX}"):
        old.unlink()
    shutil.rmtree(OUT / "bad", ignore_errors=True)
    rng = np.random.default_rng(7)
    number_types()
    index_types()
    sparse_storage(rng)
    dense_storage(rng)
    columns()
    containers(rng)
    edges()
    engine(rng)
    bad_files()
    for legacy in sorted(OUT.glob("legacy.*.h5ad")):
        register(legacy, "data frames 0.1.0, arrays without an encoding attribute")
    text = json.dumps(MANIFEST, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = text.replace('},"', '},\n"')
    (OUT / "manifest.json").write_text(text + "\n", encoding="utf-8")
    sizes = {p.name: p.stat().st_size for p in OUT.rglob("*") if p.is_file()}
    print(len(sizes), "files,", sum(sizes.values()), "bytes")


if __name__ == "__main__":
    main()
