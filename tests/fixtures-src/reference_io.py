"""Where the reference scripts read and write. Formats: README.md of this folder."""

import gzip
import json
import os
from importlib.metadata import version
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
OUT = ROOT / "tests" / "testthat" / "reference"
DATA = Path(os.environ.get("SCOOM_SHARED", ROOT.parent / "shared")) / "data"


class Reference:
    """One set of reference results: `<name>.json` and its binary tables."""

    def __init__(self, name, packages):
        OUT.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.index = {"versions": {p: version(p) for p in packages}, "tables": {}}

    def table(self, name, columns, rows=None, dtype="float64"):
        """Columns of equal length, little-endian, one after the other."""
        size = np.dtype(dtype).itemsize
        data = np.column_stack([np.asarray(v, dtype=np.float64) for v in columns.values()])
        raw = np.asfortranarray(data).astype(f"<f{size}").tobytes(order="F")
        file = f"{self.name}-{name}.bin.gz"
        (OUT / file).write_bytes(gzip.compress(raw, 9, mtime=0))
        self.index["tables"][name] = {
            "file": file,
            "size": size,
            "nrow": len(data),
            "columns": list(columns),
            "rows": rows,
        }

    def names(self, name, values):
        file = f"{self.name}-{name}.txt.gz"
        text = "\n".join(map(str, values)) + "\n"
        (OUT / file).write_bytes(gzip.compress(text.encode(), 9, mtime=0))
        self.index.setdefault("names", {})[name] = file

    def value(self, key, value):
        self.index[key] = value

    def write(self):
        text = json.dumps(self.index, ensure_ascii=False, allow_nan=False, indent=1)
        (OUT / f"{self.name}.json").write_text(text + "\n", encoding="utf-8")
