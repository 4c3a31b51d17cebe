#!/usr/bin/env bash
# One project, live, end to end, on this machine: see `make demo`. Exit 0 when project and workspace end equal, else 1.
# Needs the binaries (cargo build --bins) and examples/live's packages. Ends nothing but what it started.
set -euo pipefail
cd "$(dirname "$0")/.."

here=$PWD
bin=${CARGO_TARGET_DIR:-$here/target}/debug
scratch=$(mktemp -d)
server=
live=

cleanup() {
  exec 9>&- || true
  [ -z "$live" ] || wait "$live" 2>/dev/null || true
  [ -z "$server" ] || { kill "$server" 2>/dev/null && wait "$server" 2>/dev/null; } || true
  rm -rf "$scratch"
}
trap cleanup EXIT

say() { printf '\n== %s\n' "$*"; }
fail() { printf '\nFAILED: %s\n' "$*" >&2; exit 1; }

# Waits until a file holds a line that starts with $2, and prints the rest of that line.
line_of() {
  local tries
  for tries in $(seq 200); do
    sed -n "s|^$2||p" "$1" | grep -m1 . && return
    sleep 0.05
  done
  cat "$1" >&2
  fail "nothing said \"$2\" within 10 seconds"
}

say "The server, on its embedded default"
"$bin/sync-server" --listen 127.0.0.1:0 --data "$scratch/data" > "$scratch/server.out" 2> "$scratch/server.err" &
server=$!
url=$(line_of "$scratch/server.out" "listening on ")
token=$(line_of "$scratch/server.out" "admin token: ")
echo "$url"

# Nothing of the demo reaches the user's own configuration.
export HOME="$scratch/home" XDG_CONFIG_HOME="$scratch/home/.config" USPARK_SERVER="$url" USPARK_TOKEN="$token"
mkdir -p "$HOME"

say "A project, from examples/hello"
project=hello
curl -sS --fail-with-body -o /dev/null -H "authorization: Bearer $token" -H 'content-type: application/json' \
  -d "{\"id\": \"$project\", \"name\": \"Hello\"}" "$url/api/projects"
cp -r examples/hello "$scratch/source"
(cd "$scratch/source" && "$bin/uspark" push --project-id "$project" --all)

say "A live subscriber: a stock Yjs client, as an editor has it"
# It runs until its stdin, a pipe held open here, ends.
mkfifo "$scratch/open"
node examples/live/live.mjs "$url" "$project" "$token" < "$scratch/open" > "$scratch/live.out" &
live=$!
exec 9> "$scratch/open"
line_of "$scratch/live.out" "  live: " > /dev/null
tail -n +1 -f --pid="$live" "$scratch/live.out" 9>&- &

mkdir "$scratch/workspace"
cd "$scratch/workspace"
if command -v claude > /dev/null && [ -n "${ANTHROPIC_API_KEY:-}" ]; then
  say "Claude Code edits the project, under uspark run"
  export IS_SANDBOX=1
  "$bin/uspark" run --project-id "$project" --prompt \
    "Greet the visitor by the name in the URL's query, and tick that off in README.md. Keep it small." > "$scratch/claude.jsonl"
else
  say "A script edits the project as an agent does, under uspark run (Claude Code is not installed, or ANTHROPIC_API_KEY is not set)"
  "$bin/uspark" run --project-id "$project" -- "$here/examples/edit-like-an-agent.sh"
fi

say "Is everything on the server what is in the workspace?"
mkdir "$scratch/fresh"
(cd "$scratch/fresh" && "$bin/uspark" pull --project-id "$project")
exec 9>&-
wait "$live"
diff -r --no-dereference --exclude=.uspark "$scratch/workspace" "$scratch/fresh" || fail "the project and the workspace differ"
! diff -r --no-dereference --exclude=.uspark -q "$scratch/workspace" "$here/examples/hello" > /dev/null || fail "nothing was edited"
grep -q '^  live .* s ' "$scratch/live.out" || fail "no change arrived at the live subscriber"
changes=$(grep -c '^  live .* s ' "$scratch/live.out")
printf '\nOK: the project and the workspace are equal; the live subscriber saw %s changes as they were made.\n' "$changes"
