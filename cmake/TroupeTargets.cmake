# troupe_library(<name> SOURCES ... [DEPENDS ...]): one static library per folder, alias troupe::<name>.
# troupe_test(<name> SOURCES ... [DEPENDS ...] [LABEL ...]): one GoogleTest program, one ctest entry per test case.
include(GNUInstallDirs)

add_library(troupe_warnings INTERFACE)
add_library(troupe::warnings ALIAS troupe_warnings)
target_compile_options(troupe_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wno-missing-field-initializers
  $<$<BOOL:${TROUPE_WERROR}>:-Werror>)

# Instrumentation and the build-wide baseline that every object must agree on.
add_library(troupe_build INTERFACE)
add_library(troupe::build ALIAS troupe_build)
target_compile_features(troupe_build INTERFACE cxx_std_20)
target_include_directories(troupe_build INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
if(TROUPE_SANITIZE STREQUAL "address")
  # null: the packaged CAF binds a reference to null for actors without arguments.
  target_compile_options(troupe_build INTERFACE
    -fsanitize=address,undefined -fno-sanitize=null -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  target_link_options(troupe_build INTERFACE -fsanitize=address,undefined)
elseif(TROUPE_SANITIZE STREQUAL "thread")
  target_compile_options(troupe_build INTERFACE -fsanitize=thread -fno-omit-frame-pointer)
  target_link_options(troupe_build INTERFACE -fsanitize=thread)
  target_sources(troupe_build INTERFACE
    $<$<STREQUAL:$<TARGET_PROPERTY:TYPE>,EXECUTABLE>:${CMAKE_CURRENT_LIST_DIR}/tsan_suppressions.cpp>)
elseif(TROUPE_SANITIZE)
  message(FATAL_ERROR "TROUPE_SANITIZE is \"${TROUPE_SANITIZE}\"; it takes address, thread or nothing")
endif()

function(troupe_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  add_library(troupe_${name} STATIC ${ARG_SOURCES})
  add_library(troupe::${name} ALIAS troupe_${name})
  set_target_properties(troupe_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_link_libraries(troupe_${name} PUBLIC troupe::build ${ARG_DEPENDS} PRIVATE troupe::warnings)
endfunction()

function(troupe_test name)
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT" "SOURCES;DEPENDS" ${ARGN})
  if(NOT TROUPE_TESTS)
    return()
  endif()
  add_executable(test_${name} ${ARG_SOURCES})
  target_link_libraries(test_${name} PRIVATE
    troupe::build troupe::warnings troupe::test_support ${ARG_DEPENDS} GTest::gmock GTest::gtest_main)
  if(NOT ARG_LABEL)
    set(ARG_LABEL unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  if(TROUPE_SANITIZE)
    math(EXPR ARG_TIMEOUT "4 * ${ARG_TIMEOUT}")
  endif()
  gtest_discover_tests(test_${name}
    TEST_PREFIX "${name}."
    DISCOVERY_TIMEOUT 60
    PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT})
endfunction()
