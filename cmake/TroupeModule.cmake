# troupe_add_module(<name> SOURCES ... [CUDA_SOURCES ...] [NO_INSTALL]): a module in C or C++, built so that it can be loaded, replaced and unloaded while
# Troupe runs. Output: <build>/lib/troupe/modules/<name>.so; installed to <libdir>/troupe/modules, where Troupe looks for it.
#
# Works the same in Troupe's own tree and after find_package(Troupe). The library exports troupe_module_entry and nothing
# else. -fno-gnu-unique and hidden visibility: a unique symbol keeps a library mapped after its close and shares statics
# between two versions. -z defs: an undefined symbol is an error now instead of at load.
#
# -ffp-contract=off: what a native op fuses is written in its source, so that a number is computed alike in every loop.
#
# CUDA_SOURCES: .cu files with the CUDA bodies of native ops. They are left out unless the project has enabled the language CUDA; where
# they are in, TROUPE_MODULE_CUDA is defined for all sources, and the CUDA runtime is linked statically.
#
# A module in plain C needs troupe::abi, the one header; C++ is neither needed nor looked for then. Any other source takes
# troupe::sdk and with it FlatBuffers' headers.
include(GNUInstallDirs)
include(CheckCXXCompilerFlag)
set(TROUPE_MODULE_MAP "${CMAKE_CURRENT_LIST_DIR}/TroupeModule.map" CACHE INTERNAL "what a module exports")

function(troupe_add_module name)
  cmake_parse_arguments(ARG "NO_INSTALL" "" "SOURCES;CUDA_SOURCES" ${ARGN})
  if(NOT ARG_SOURCES OR ARG_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "troupe_add_module(${name}): expected SOURCES and files, found: ${ARGN}")
  endif()
  get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
  if(NOT "CUDA" IN_LIST languages)
    set(ARG_CUDA_SOURCES)
  endif()
  add_library(${name} MODULE ${ARG_SOURCES} ${ARG_CUDA_SOURCES})
  if(ARG_CUDA_SOURCES)
    find_package(CUDAToolkit REQUIRED)
    target_link_libraries(${name} PRIVATE CUDA::cudart_static)
    target_compile_definitions(${name} PRIVATE TROUPE_MODULE_CUDA)
    set_target_properties(${name} PROPERTIES CUDA_VISIBILITY_PRESET hidden CUDA_RUNTIME_LIBRARY Static)
    target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-O3>)
  endif()
  set(others ${ARG_SOURCES})
  list(FILTER others EXCLUDE REGEX "\\.[ch]$")
  if(others)
    get_property(problem GLOBAL PROPERTY TROUPE_SDK_PROBLEM)
    if(problem)
      message(FATAL_ERROR "troupe_add_module(${name}): ${problem}")
    endif()
    target_link_libraries(${name} PRIVATE troupe::sdk)
    check_cxx_compiler_flag(-fno-gnu-unique TROUPE_HAS_NO_GNU_UNIQUE)
    if(TROUPE_HAS_NO_GNU_UNIQUE)
      target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-fno-gnu-unique>)
    endif()
  else()
    target_link_libraries(${name} PRIVATE troupe::abi)
  endif()
  target_compile_options(${name} PRIVATE $<$<NOT:$<COMPILE_LANGUAGE:CUDA>>:-ffp-contract=off>)
  set_target_properties(${name} PROPERTIES
    PREFIX ""
    C_VISIBILITY_PRESET hidden
    CXX_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib/troupe/modules)
  target_link_options(${name} PRIVATE -Wl,-z,defs -Wl,--exclude-libs,ALL "-Wl,--version-script=${TROUPE_MODULE_MAP}")
  set_property(TARGET ${name} APPEND PROPERTY LINK_DEPENDS "${TROUPE_MODULE_MAP}")
  if(TARGET troupe_build)  # in Troupe's own tree: its warnings, and the instrumentation of the program that will load it
    foreach(library IN ITEMS troupe_build troupe_warnings)
      target_compile_options(${name} PRIVATE
        $<$<COMPILE_LANGUAGE:CXX>:$<TARGET_PROPERTY:${library},INTERFACE_COMPILE_OPTIONS>>)
      target_link_options(${name} PRIVATE $<TARGET_PROPERTY:${library},INTERFACE_LINK_OPTIONS>)
    endforeach()
  endif()
  if(NOT ARG_NO_INSTALL)
    install(TARGETS ${name} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/troupe/modules)
  endif()
  if(TARGET troupe_build AND NOT ARG_NO_INSTALL)  # what comes with Troupe is trusted by its SHA-256, written beside it
    add_custom_command(TARGET ${name} POST_BUILD
      COMMAND ${CMAKE_COMMAND} -E sha256sum ${name}.so > ${name}.so.sha256
      WORKING_DIRECTORY ${CMAKE_BINARY_DIR}/lib/troupe/modules VERBATIM)
    set(installed "\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_LIBDIR}/troupe/modules/${name}.so")
    install(CODE "file(SHA256 \"${installed}\" digest)
      file(WRITE \"${installed}.sha256\" \"\${digest}  ${name}.so\\n\")")
  endif()
endfunction()
