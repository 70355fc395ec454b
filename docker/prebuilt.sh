#!/usr/bin/env bash
# Makes the build context of prebuilt.Dockerfile: docker/prebuilt.sh BINARY DIR
set -euo pipefail
binary=$1
context=$2
rm -rf "$context"
mkdir -p "$context/rootfs/usr/local/bin" "$context/rootfs/tmp" "$context/data"
chmod 1777 "$context/rootfs/tmp"
cp "$binary" "$context/rootfs/usr/local/bin/sillok"
ldd "$binary" | grep -oE '/[^ ]+' | while read -r library; do
  mkdir -p "$context/rootfs$(dirname "$library")"
  cp -L "$library" "$context/rootfs$library"
done
cp "$(dirname "$0")/prebuilt.Dockerfile" "$context/Dockerfile"
