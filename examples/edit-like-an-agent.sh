#!/usr/bin/env bash
# Edits examples/hello as a coding agent does: small edits of lines, whole new files, and shell commands that move and
# delete. It stands in for Claude Code where there is no key, and runs under `uspark run -- examples/edit-like-an-agent.sh`.
set -euo pipefail

step() {
  echo "agent: $*"
}

step "edits one line of src/greeting.js"
sed -i "s/const name = 'world'/const name = new URLSearchParams(location.search).get('name') ?? 'world'/" src/greeting.js

step "writes src/farewell.js"
cat > src/farewell.js <<'FILE'
export function farewell (name) {
  return `Goodbye, ${name}.`
}
FILE

step "moves the style and points the page at it"
mkdir -p assets
mv src/style.css assets/style.css
sed -i 's|src/style.css|assets/style.css|' index.html

step "makes a script that can be run, and a link to it"
printf '#!/bin/sh\nexec python3 -m http.server "$@"\n' > serve.sh
chmod +x serve.sh
ln -s serve.sh start

step "ticks the first item and deletes the picture"
sed -i 's/- \[ \] greet/- [x] greet/' README.md
rm dot.png
sed -i '/rel="icon"/d' index.html
