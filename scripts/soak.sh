#!/usr/bin/env bash
# The long forms of the rows in `tests/tests/soak` and `container-agent/src/engine/tests/soak`: see `make soak`.
#   ROW=part of a name   only those rows
#   SEED=number          every row with this seed; else each draws one, and prints it
# A row that held at this commit is not run again: target/soak/<commit> has what it printed. Exit 1 when a row failed.
set -euo pipefail
cd "$(dirname "$0")/.."

commit=$(git rev-parse --short HEAD)
[ -z "$(git status --porcelain --untracked-files=no)" ] || commit+=-changed
results=${CARGO_TARGET_DIR:-target}/soak/$commit
mkdir -p "$results"
[ -z "${SEED:-}" ] || export USPARK_SEED=$SEED
export USPARK_SOAK=1

cargo build --release --bins
failed=0
# Runs the rows of one test executable: cargo's arguments for it.
rows_of() {
  local row out
  for row in $(cargo test --release -q "$@" -- --list 2>/dev/null | sed -n 's/: test$//p' | grep -F "${ROW:-}"); do
    out=$results/${row//::/.}
    if grep -q '^held ' "$out" 2>/dev/null; then
      echo "held before: $row"
      continue
    fi
    echo "== $row"
    if cargo test --release -q "$@" -- --exact "$row" --nocapture >"$out.part" 2>&1; then
      mv "$out.part" "$out"
      grep -E '^(row|held) ' "$out" || true
    else
      failed=1
      grep -E '^row ' "$out.part" || true
      echo "FAILED: $row, see $out.part"
    fi
  done
}
rows_of -p uspark-tests --test soak
rows_of -p container-agent --lib engine::tests::soak
echo
grep -hE '^held ' "$results"/* || true
[ "$failed" = 0 ] || { echo "FAILED: some rows did not hold."; exit 1; }
echo "OK: every row held."
