#!/usr/bin/env bash
# Installs a Node package's locked dependencies: install-node-package.sh DIR. Does nothing when they are already there.
set -euo pipefail
cd "$1"

stamp=node_modules/.installed
if [ -e "$stamp" ] && cmp -s "$stamp" package-lock.json; then
  exit 0
fi

npm ci --no-audit --no-fund --loglevel=error

# Claude Code places its binary by an install script, which npm may be set not to run.
claude=node_modules/@anthropic-ai/claude-code
if [ -d "$claude" ] && ! "$claude/bin/claude.exe" --version >/dev/null 2>&1; then
  node "$claude/install.cjs"
  "$claude/bin/claude.exe" --version >/dev/null
fi

cp package-lock.json "$stamp"
