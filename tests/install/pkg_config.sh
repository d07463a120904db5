#!/usr/bin/env bash
# usage: pkg_config.sh <prefix> <work folder> <tests/kernel>
# A module in C and one in C++ by pkg-config alone.
set -euo pipefail
export PKG_CONFIG_PATH=$(dirname "$(find "$1" -name troupe-sdk.pc)") XDG_CACHE_HOME=$2/cache
rm -rf "$2"
mkdir -p "$2"
cd "$2"
"$CXX" -std=c++20 -shared -fPIC $(pkg-config --cflags --libs troupe-sdk) "$3/sdk/external_cxx/echo.cpp" -o echo.so
"$CC" -std=c11 -shared -fPIC $(pkg-config --cflags --libs troupe-sdk) "$3/abi/minimal.c" -o minimal.so
for module in echo minimal; do "$1/bin/troupe" module inspect $module.so | grep "^$module "; done
"$1/bin/troupe" program --config "$3/sdk/package_config.json" --module echo.so | grep EchoForCausalLM
[ "$(nm -D --defined-only echo.so | wc -l)" = 1 ] || { nm -D --defined-only echo.so; exit 1; }
ls "$(pkg-config --variable=modulesdir troupe-sdk)/mixtral.so"
