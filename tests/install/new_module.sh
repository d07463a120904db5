#!/usr/bin/env bash
# usage: new_module.sh <prefix> <work folder>
# Runs the commands that `troupe module new` tells to run, as they stand, then the project's own tests.
set -euo pipefail
export PATH=$1/bin:$PATH XDG_CACHE_HOME=$2/cache
rm -rf "$2"
mkdir -p "$2"
cd "$2"

troupe module new my_first | tee told
[ "$(sed -n 's/^wrote my_first: //p' told)" = "CMakeLists.txt, README.md, config.json, my_first.cpp" ]
! grep -rqi 'my_model\|mymodel' my_first || { echo "a name of the template was left"; exit 1; }
sed -n '/^next:$/,$ s/^  //p' told > next
[ "$(wc -l < next)" = 4 ]
bash -euxo pipefail next | tee said
grep -q 'CMAKE_BUILD_TYPE:STRING=Release' my_first/build/CMakeCache.txt
grep -q 'architectures  MyFirstForCausalLM' said
grep -q 'parameters 58.47 M in all' said
ctest --test-dir my_first/build --output-on-failure
cmake --install my_first/build --prefix "$2/installed"
find "$2/installed" -name my_first.so | grep -q troupe/modules/my_first.so

# A second one does not touch the first.
if troupe module new my_first 2> refused; then exit 1; fi
grep -q 'my_first: is there already and not empty; nothing was written' refused
