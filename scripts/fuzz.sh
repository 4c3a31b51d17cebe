#!/usr/bin/env bash
# Runs the fuzz targets of fuzz/, each for a while: fuzz.sh [SECONDS [TARGET…]]; 20 s without a number.
# fuzz.sh --keep        writes fuzz/corpus anew: the least that reaches all that was ever reached here
# Exit 1 when a target failed; 3 when nothing was run, because there is no nightly toolchain or no cargo-fuzz.
set -euo pipefail
cd "$(dirname "$0")/.."

keep='' seconds=20
case ${1:-} in
  --keep) keep=1 && shift ;;
  '') ;;
  *) seconds=$1 && shift ;;
esac
targets=("${@:-frame update session}")
read -ra targets <<<"${targets[*]}"
if ! cargo +nightly fuzz --version >/dev/null 2>&1; then
  echo "NOT RUN fuzz: \`cargo +nightly fuzz\` is not there (rustup toolchain install nightly; cargo install cargo-fuzz)"
  exit 3
fi
work=$PWD/${CARGO_TARGET_DIR:-target}/fuzz
mkdir -p "$work"
if ! cargo +nightly fuzz build --target-dir "$work/build" >"$work/build.log" 2>&1; then
  echo "FAILED: the fuzz targets do not build, see $work/build.log" >&2
  exit 1
fi

# run TARGET ARGUMENT…: the target itself.
run() {
  "$(find "$work"/build/*/release -maxdepth 1 -name "$1" -type f)" "${@:2}" \
    -artifact_prefix="$work/failed-$1-" >"$work/$1.log" 2>&1
}

# unpack FILE DIRECTORY: every case of a corpus into a file of its own.
unpack() {
  local hex
  rm -rf "$2" && mkdir -p "$2"
  while read -r hex; do
    # shellcheck disable=SC2059
    [[ $hex == '#'* ]] || printf "$(sed 's/../\\x&/g' <<<"$hex")" >"$2/$(cksum <<<"$hex" | tr ' ' -)"
  done <"$1"
}

hex() { od -An -v -tx1 "$1" | tr -d ' \n'; }

failed=0
for target in "${targets[@]}"; do
  corpus=fuzz/corpus/$target.txt
  unpack "$corpus" "$work/corpus/$target"
  mkdir -p "$work/found/$target"
  if [ -n "$keep" ]; then
    rm -rf "$work/least" && mkdir "$work/least"
    run "$target" -merge=1 -use_counters=0 -max_len=250 "$work/least" "$work/found/$target" "$work/corpus/$target"
    {
      sed -n '1p' "$corpus"
      for file in $(find "$work/least" -type f -size +0 -printf '%s %f\n' | sort -n | cut -d' ' -f2); do
        hex "$work/least/$file" && echo
      done
      sed -n '/^# Cases that once failed/,$p' "$corpus"
    } >"$work/kept"
    mv "$work/kept" "$corpus"
    echo "$corpus has $(grep -vc '^#' "$corpus") cases"
  elif run "$target" -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=1024 \
    "$work/found/$target" "$work/corpus/$target"; then
    echo "held fuzz $target: $(sed -n 's/^Done \(.*\)/\1/p' "$work/$target.log")"
  else
    failed=1
    echo "FAILED: fuzz $target, see $work/$target.log; for $corpus, once it is mended:"
    for file in "$work"/failed-"$target"-*; do hex "$file" && echo; done
  fi
done
exit "$failed"
