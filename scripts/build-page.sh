#!/usr/bin/env bash
# Builds the page into web/viewer/dist, from where `cargo build` takes it into the server. Does nothing when it is there and
# nothing it is made of is newer; without Node it says so, and the server is built without the page.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v npm > /dev/null; then
  echo "there is no npm here: the server is built without the page" >&2
  exit 0
fi

scripts/install-node-package.sh web
page=web/viewer/dist/index.html
if [ -e "$page" ] && [ -z "$(find web/package-lock.json web/client/src web/viewer/{src,public,index.html,vite.config.js} -newer "$page" -print -quit)" ]; then
  exit 0
fi
npm run --silent build --prefix web > /dev/null
