# CUDA, where there is a compiler for it: TROUPE_CUDA says whether libtroupe-cuda.so and the CUDA bodies of native ops are built.
#
# Nothing but those links CUDA, and they link the runtime statically. CMAKE_CUDA_ARCHITECTURES selects the devices: "90a" (H100,
# H200; the default), "80-real;90a-real" for A100 as well. Kernels need compute capability 8.0 or later.
#
# troupe_cuda_library(<name> SOURCES ... [DEPENDS ...]): as troupe_library, with .cu files.
find_program(TROUPE_NVCC nvcc HINTS ENV CUDACXX PATHS /usr/local/cuda/bin)
mark_as_advanced(TROUPE_NVCC)
if(TROUPE_NVCC AND NOT TROUPE_SANITIZE)
  set(TROUPE_HAS_NVCC ON)
else()
  set(TROUPE_HAS_NVCC OFF)
endif()
option(TROUPE_CUDA "Build the CUDA backend" ${TROUPE_HAS_NVCC})
if(TROUPE_CUDA)
  if(NOT TROUPE_NVCC)
    message(FATAL_ERROR "TROUPE_CUDA is ON, but there is no nvcc: install CUDA 13, or name its compiler in CUDACXX, or set TROUPE_CUDA=OFF")
  endif()
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 90a CACHE STRING "Devices to build kernels for")
  endif()
  if(NOT DEFINED CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_COMPILER ${TROUPE_NVCC} CACHE FILEPATH "CUDA compiler")
  endif()
  enable_language(CUDA)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know what nvcc 13 can do
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  find_package(CUDAToolkit 13 REQUIRED)
endif()

function(troupe_cuda_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  if(NOT TROUPE_CUDA)
    return()
  endif()
  add_library(troupe_${name} STATIC ${ARG_SOURCES})
  add_library(troupe::${name} ALIAS troupe_${name})
  target_link_libraries(troupe_${name} PUBLIC ${ARG_DEPENDS} CUDA::cudart_static)
  target_include_directories(troupe_${name} PUBLIC ${PROJECT_SOURCE_DIR})
  # -O3 in every build: kernels without it are no measure of anything, and the tests that run them take long.
  target_compile_options(troupe_${name} PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:$<TARGET_PROPERTY:troupe_warnings,INTERFACE_COMPILE_OPTIONS>>
    $<$<COMPILE_LANGUAGE:CUDA>:-O3 -lineinfo -Xcompiler=-Wall,-Wextra>
    $<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${TROUPE_WERROR}>>:-Werror=all-warnings>)
  set_target_properties(troupe_${name} PROPERTIES
    POSITION_INDEPENDENT_CODE ON
    CXX_VISIBILITY_PRESET hidden
    CUDA_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON)
endfunction()
