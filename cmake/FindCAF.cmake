# Finds the C++ Actor Framework as distributions package it (no CMake package, no .pc file).
# Targets: CAF::core, CAF::io. Set CAF_ROOT to use another build, e.g. one with a sanitizer. Only 0.17 will do: its atoms,
# typed actors and inspectors are another dialect than those of 0.18 and later.
find_path(CAF_INCLUDE_DIR caf/actor_system.hpp)
foreach(component IN ITEMS core io)
  find_library(CAF_${component}_LIBRARY caf_${component})
  if(CAF_${component}_LIBRARY)
    set(CAF_${component}_FOUND TRUE)
    if(NOT TARGET CAF::${component})
      add_library(CAF::${component} UNKNOWN IMPORTED)
      set_target_properties(CAF::${component} PROPERTIES
        IMPORTED_LOCATION "${CAF_${component}_LIBRARY}"
        INTERFACE_INCLUDE_DIRECTORIES "${CAF_INCLUDE_DIR}")
    endif()
  endif()
endforeach()
if(CAF_INCLUDE_DIR)
  file(STRINGS "${CAF_INCLUDE_DIR}/caf/config.hpp" CAF_VERSION_LINE REGEX "#define CAF_VERSION [0-9]+")
  string(REGEX MATCH "[0-9]+$" CAF_VERSION_NUMBER "${CAF_VERSION_LINE}")
  set(CAF_VERSION "another version")
  if(CAF_VERSION_NUMBER)
    math(EXPR CAF_VERSION_MAJOR "${CAF_VERSION_NUMBER} / 10000")
    math(EXPR CAF_VERSION_MINOR "(${CAF_VERSION_NUMBER} / 100) % 100")
    math(EXPR CAF_VERSION_PATCH "${CAF_VERSION_NUMBER} % 100")
    set(CAF_VERSION "${CAF_VERSION_MAJOR}.${CAF_VERSION_MINOR}.${CAF_VERSION_PATCH}")
  endif()
  if(NOT CAF_VERSION MATCHES "^0\\.17\\.")
    message(FATAL_ERROR "Troupe needs CAF 0.17, found ${CAF_VERSION} in ${CAF_INCLUDE_DIR}: install libcaf-dev of Debian 12 or \
Ubuntu 24.04, set CAF_ROOT to a build of 0.17, or configure with TROUPE_ACTORS=OFF.")
  endif()
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(CAF
  REQUIRED_VARS CAF_INCLUDE_DIR CAF_core_LIBRARY
  VERSION_VAR CAF_VERSION
  HANDLE_COMPONENTS)
if(CAF_FOUND)
  find_package(Threads REQUIRED)
  set_target_properties(CAF::core PROPERTIES INTERFACE_LINK_LIBRARIES Threads::Threads)
  if(TARGET CAF::io)
    set_target_properties(CAF::io PROPERTIES INTERFACE_LINK_LIBRARIES CAF::core)
  endif()
endif()
