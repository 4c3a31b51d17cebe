#!/usr/bin/env bash
# Says which of the system's programs the tests lack, and installs them where it may (Debian or Ubuntu, as root).
set -euo pipefail

declare -A package=([curl]=curl [unzip]=unzip [setpriv]=util-linux [unshare]=util-linux [node]=nodejs [npm]=npm [cc]=gcc [git]=git [rg]=ripgrep [chromium]=chromium)
missing=()
for program in "${!package[@]}"; do
  command -v "$program" > /dev/null || missing+=("${package[$program]}")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}"
else
  echo "missing: ${missing[*]}" >&2
  echo "hint: install them, for example with: sudo apt-get install ${missing[*]}" >&2
  exit 1
fi
