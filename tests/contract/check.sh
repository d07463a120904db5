#!/usr/bin/env bash
# usage: check.sh <prefix> <tests/contract> <project> <work folder>
set -euo pipefail
export XDG_CACHE_HOME=$4/cache
rm -rf "$4"
cmake -S "$2/$3" -B "$4/build" -D CMAKE_PREFIX_PATH="$1" -D CMAKE_BUILD_TYPE=Release
cmake --build "$4/build"
references=$2/references/$3
"$1/bin/troupe" module check "$4/build/lib/troupe/modules/$3.so" --checkpoint "$references"
"$1/bin/troupe" check "$references" --goldens "$references/goldens" --module "$4/build/lib/troupe/modules/$3.so"
