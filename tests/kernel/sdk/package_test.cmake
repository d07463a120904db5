# Installs the SDK into a folder of its own, builds external_cxx/ and external_c/ against it and loads the results.
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  set(status "${status}" PARENT_SCOPE)
  set(output "${output}" PARENT_SCOPE)
endfunction()

function(step)
  run(${ARGN})
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${ARGN}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

# configure(<folder> <options>...): the command that configures the author's project.
function(configure variable folder)
  set(${variable} ${CMAKE_COMMAND} -S ${SOURCE}/${folder} -B ${WORK}/${folder} -G ${GENERATOR}
    -D CMAKE_PREFIX_PATH=${WORK}/installed -D CMAKE_BUILD_TYPE=Debug ${ARGN} PARENT_SCOPE)
endfunction()

function(build_and_load folder module expected)
  step(${CMAKE_COMMAND} --build ${WORK}/${folder})
  step(${CMAKE_COMMAND} --install ${WORK}/${folder} --prefix ${WORK}/installed)
  file(GLOB_RECURSE file ${WORK}/installed/*/${module}.so)
  step(${LOAD} ${WORK}/store ${file} ${SOURCE}/package_config.json)
  if(NOT output MATCHES "${expected}")
    message(FATAL_ERROR "expected ${expected}, found: ${output}")
  endif()
endfunction()

file(REMOVE_RECURSE ${WORK})
step(${CMAKE_COMMAND} --install ${BUILD} --component sdk --prefix ${WORK}/installed)

# Plain C: no C++ compiler, no FlatBuffers.
configure(command external_c -D CMAKE_C_COMPILER=${CC} -D CMAKE_CXX_COMPILER=/nonexistent
  -D Troupe_FLATBUFFERS_INCLUDE_DIR=/nonexistent)
step(${command})
build_and_load(external_c minimal "minimal [0-9.]+: 3 ops")

# C++ with other headers than those that Troupe was built with: one sentence says so.
file(WRITE ${WORK}/other/flatbuffers/base.h "#define FLATBUFFERS_VERSION_MAJOR 1
#define FLATBUFFERS_VERSION_MINOR 2
#define FLATBUFFERS_VERSION_REVISION 3
")
set(cxx -D CMAKE_CXX_COMPILER=${CXX} -D CMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER})
configure(command external_cxx ${cxx} -D Troupe_FLATBUFFERS_INCLUDE_DIR=${WORK}/other)
run(${command})
if(status EQUAL 0 OR NOT output MATCHES "built with FlatBuffers [0-9.]+,[ \n]+found 1\\.2\\.3")
  message(FATAL_ERROR "expected a refusal of FlatBuffers 1.2.3, found: ${output}")
endif()

file(REMOVE_RECURSE ${WORK}/external_cxx)
configure(command external_cxx ${cxx})
step(${command})
build_and_load(external_cxx echo "echo 0.1.0: 3 ops")
