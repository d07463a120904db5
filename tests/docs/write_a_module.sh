#!/usr/bin/env bash
# usage: write_a_module.sh <prefix> <source tree> <work folder>
# Builds the module of every step of docs/write_a_module.md against the installed package, and its Program.
set -euo pipefail
export XDG_CACHE_HOME=$3/cache
rm -rf "$3"
mkdir -p "$3"
cd "$3"
python3 "$2/tests/docs/steps.py" "$2/docs/write_a_module.md" "$1/share/troupe/template/my_model.cpp" . \
  "$2/tests/contract/llama/llama.cpp"
sed 's/MyModelForCausalLM/LlamaForCausalLM/' "$1/share/troupe/template/config.json" > config.json
cat > CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.25)
project(steps LANGUAGES CXX)
find_package(Troupe 0.1 REQUIRED)
file(GLOB steps RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} step_*.cpp)
foreach(step IN LISTS steps)
  cmake_path(GET step STEM name)
  troupe_add_module(${name} NO_INSTALL SOURCES ${step})
  target_compile_options(${name} PRIVATE -Wall -Wextra -Wno-missing-field-initializers -Werror)
  set_target_properties(${name} PROPERTIES DEFINE_SYMBOL "")  # so that all may share the compiled headers of the first
  if(name STREQUAL "step_1")
    target_precompile_headers(step_1 PRIVATE <troupe/sdk/module.hpp>)
  else()
    target_precompile_headers(${name} REUSE_FROM step_1)
  endif()
endforeach()
END
cmake -S . -B build -D CMAKE_PREFIX_PATH="$1"
cmake --build build
for step in step_*.cpp; do
  "$1/bin/troupe" program --config config.json --module "build/lib/troupe/modules/${step%.cpp}.so" --no-weights | head -5
done
