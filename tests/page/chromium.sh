#!/usr/bin/env bash
# Install what the page's tests look with, unless it is there: Debian's Chromium, and fonts for Chinese.
set -euo pipefail
command -v chromium >/dev/null && fc-list 2>/dev/null | grep -qi 'cjk\|wqy\|source han' && exit 0
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
command -v apt-get >/dev/null || { echo "The page's tests need chromium on the PATH, and a Chinese font: install both." >&2; exit 2; }
as_root apt-get update -qq
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fontconfig fonts-noto-cjk >/dev/null
