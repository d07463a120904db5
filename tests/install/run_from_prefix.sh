#!/usr/bin/env bash
# usage: run_from_prefix.sh <prefix>
set -euo pipefail
bin=$1/bin/troupe

for demo in mixtral-demo jamba-demo; do  # jamba: with native ops, which run because they came along
  answer=$("$bin" generate --model "$1/share/troupe/demo/$demo" --temperature 0 "What is the capital of France?")
  [ "$answer" = "The capital of France is Paris." ] || { echo "$demo: $answer"; exit 1; }
done
"$bin" version
"$bin" program "$1/share/troupe/demo/mixtral-demo" | grep -q attention
for file in include/troupe/module.h include/troupe/sdk/module.hpp include/troupe/client.hpp share/troupe/default.toml \
            share/troupe/schemas/program.fbs share/troupe/template/CMakeLists.txt; do
  [ -f "$1/$file" ] || { echo "missing: $file"; exit 1; }
done
