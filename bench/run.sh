#!/usr/bin/env bash
# Measures scoom on one large file, each task between two bare inflates of the
# same file on the same threads, and the Python peers where an interpreter with
# them is given. Prints lines of JSON; bench/summary.R makes the table.
# usage: bench/run.sh FILE [repeats] [python] > lines.json
#        bench/run.sh --pipeline FILE [memory] [python] > lines.json
# The second form runs raw counts to UMAP and clusters, by steps, once.
# FILE comes from make_synthetic_h5ad.py --cells 100000 --genes 20000.
set -euo pipefail
only_pipeline=
if [ "$1" = --pipeline ]; then
  only_pipeline=yes
  shift
fi
file=$1
repeats=${2:-3}
python=${3:-}
threads=${SCOOM_BENCH_THREADS:-2}
here="$(cd "$(dirname "$0")" && pwd)"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$here/../.cache/target}"
cargo build --quiet --release --manifest-path "$here/../src/rust/Cargo.toml" \
  -p scoom-core --example passes
passes="$CARGO_TARGET_DIR/release/examples/passes"

seconds() { sed -E 's|.*[:,] ([0-9.]+) s$|\1|'; }
engine() {
  printf '{"engine": "%s", "task": "%s", "seconds": %s}\n' \
    "$1" "$2" "$("$passes" "$file" "$1" "$threads" | seconds)"
}

# Whole pipelines: bare inflates around scoom, then scanpy.
if [ -n "$only_pipeline" ]; then
  engine inflate pipeline
  Rscript "$here/r/pipeline.R" "$file" "$threads" "${2:-default}"
  engine inflate pipeline
  if [ -n "$python" ]; then
    OMP_NUM_THREADS=$threads NUMBA_NUM_THREADS=$threads \
      "$python" "$here/py/pipeline_scanpy.py" "$file" "$threads" 2>/dev/null
  fi
  exit 0
fi

for _ in $(seq "$repeats"); do
  for task in qc qc_top ttest pseudobulk pca wilcoxon; do
    engine inflate "$task"
    Rscript "$here/r/task.R" "$task" "$file" "$threads"
  done
  engine inflate wilcoxon_500MB
  Rscript "$here/r/task.R" wilcoxon "$file" "$threads" 500MB |
    sed 's/"task": "wilcoxon"/"task": "wilcoxon_500MB"/'
  engine decode qc
  engine h5dread qc
done

[ -n "$python" ] || exit 0
peers="${SCOOM_SHARED:-$here/../../shared}/bench/peer_py.py"
for pair in "scanpy qc" "scanpy pca" "scanpy ttest" "scanpy pseudobulk" \
  "anndataoom qc" "anndataoom pca" "illico wilcoxon"; do
  # shellcheck disable=SC2086 # two words on purpose
  OMP_NUM_THREADS=$threads NUMBA_NUM_THREADS=$threads \
    "$python" "$peers" $pair "$file" 2>/dev/null | tail -n 1 || true
done
