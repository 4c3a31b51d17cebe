#!/usr/bin/env bash
# The long forms of the rows, as `make soak`: those in `tests/tests/soak`, `container-agent/src/engine/tests/soak`,
# `shared/tests/hostile.rs` and `sync-server`; the fuzz targets, where there is what they need; and once each the tests that
# are rows without a long form.
#   PART=agent|server    only the rows of one of the two
#   ROW=part of a name   only those rows
#   SEED=number          every row with this seed; else each draws one, and prints it
# A row that held for these very files (and this seed) is not run again: target/soak has what it printed.
# Exit 1 when a row failed, when there is none of that name, or when those of one part took longer than they may.
set -euo pipefail
cd "$(dirname "$0")/.."

# What the rows of a part may take together, in seconds.
most=2400

# Every change that is not committed, files that are new among it.
changes() {
  git diff HEAD --binary
  git ls-files --others --exclude-standard -z | xargs -0 -r sha1sum
}
files=$(git rev-parse --short HEAD)
[ -z "$(changes)" ] || files+=-$(changes | sha1sum | cut -c1-10)
results=${CARGO_TARGET_DIR:-target}/soak/$files${SEED:+-seed-$SEED}
mkdir -p "$results"
[ -z "${SEED:-}" ] || export USPARK_SEED=$SEED
export USPARK_SOAK=1

cargo build --release --bins
built=$(cargo test --release --no-run --message-format json-render-diagnostics \
  -p uspark-tests --test soak --test mass_delete -p container-agent -p uspark-shared --test hostile \
  -p sync-server --test edge --lib)

# The path of a test executable that was built.
executable() {
  sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' <<<"$built" | grep -E "/deps/$1-[0-9a-f]+\$" | tail -1
}

rows=0 total=0 failed=0
# rows_of EXECUTABLE PATTERN [NOT]: runs the tests of it whose names match PATTERN, and not NOT.
rows_of() {
  local program list row out began
  program=$(executable "$1") || { echo "FAILED: no test executable $1 was built." >&2; exit 1; }
  list=$("$program" --list --format terse | sed -n 's/: test$//p' | grep -E "$2" | grep -vE "${3:-^\$}") ||
    { echo "FAILED: $1 has no test like $2." >&2; exit 1; }
  for row in $list; do
    [[ $row == *"${ROW:-}"* ]] || continue
    rows=$((rows + 1))
    out=$results/$1.${row//::/.}
    if [ -e "$out" ]; then
      echo "held before: $row"
    else
      echo "== $row"
      began=$SECONDS
      if ! "$program" --exact "$row" --nocapture >"$out.part" 2>&1; then
        failed=1
        grep -E '^row ' "$out.part" || true
        echo "FAILED: $row, see $out.part"
        continue
      fi
      grep -E '^(row|held) ' "$out.part" || echo "held $row" | tee -a "$out.part"
      echo "took $((SECONDS - began)) s" >>"$out.part"
      mv "$out.part" "$out"
    fi
    total=$((total + $(sed -n 's/^took \([0-9]*\) s$/\1/p' "$out")))
  done
}
# The fuzz targets, each for a while, where there is what they need: a row that is a program of its own.
fuzz() {
  local out=$results/fuzz
  [[ fuzz == *"${ROW:-}"* ]] || return 0
  rows=$((rows + 1))
  if [ -e "$out" ]; then
    echo "held before: fuzz"
  else
    echo "== fuzz"
    local began=$SECONDS code=0
    scripts/fuzz.sh 20 >"$out.part" || code=$?
    cat "$out.part"
    [ "$code" != 3 ] || return 0
    [ "$code" = 0 ] || { failed=1 && return 0; }
    echo "took $((SECONDS - began)) s" >>"$out.part"
    mv "$out.part" "$out"
  fi
  total=$((total + $(sed -n 's/^took \([0-9]*\) s$/\1/p' "$out")))
}
# The server's among the end-to-end rows.
of_server='^(server_|clients::|events::)'
server() {
  fuzz
  rows_of hostile '^'
  rows_of edge '^(hostile|foreign)::'
  rows_of sync_server '^project::tests::random::|::soak::'
  rows_of soak "$of_server"
}
agent() {
  rows_of soak '^' "$of_server"
  rows_of mass_delete '^'
  rows_of container_agent '^engine::tests::(soak|resilience|conflicts|mass_delete)::'
}
slow=0
for part in ${PART:-agent server}; do
  total=0
  "$part"
  echo "$part: $((total / 60)) min $((total % 60)) s."
  [ "$total" -le "$most" ] || slow=1
done

echo
grep -hE '^held ' "$results"/* || true
[ "$rows" -gt 0 ] || { echo "FAILED: no row is called like ${ROW:-}."; exit 1; }
grep -h '^NOT RUN' "$results"/fuzz.part 2>/dev/null || true
[ "$failed" = 0 ] || { echo "FAILED: some rows did not hold."; exit 1; }
[ "$slow" = 0 ] || { echo "FAILED: the rows of a part may take $((most / 60)) min."; exit 1; }
echo "OK: every row held."
