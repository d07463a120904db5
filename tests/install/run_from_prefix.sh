#!/usr/bin/env bash
# usage: run_from_prefix.sh <cmake> <build folder>
set -euo pipefail
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
"$1" --install "$2" --prefix "$prefix/one" >/dev/null
mv "$prefix/one" "$prefix/moved"   # an installation may be moved as a whole
bin=$prefix/moved/bin/troupe

answer=$("$bin" generate --model "$prefix/moved/share/troupe/demo/mixtral-demo" --temperature 0 "What is the capital of France?")
[ "$answer" = "The capital of France is Paris." ] || { echo "answer: $answer"; exit 1; }
"$bin" version
"$bin" program "$prefix/moved/share/troupe/demo/mixtral-demo" | grep -q attention
for file in include/troupe/module.h include/troupe/client.hpp share/troupe/default.toml; do
  [ -f "$prefix/moved/$file" ] || { echo "missing: $file"; exit 1; }
done
