# find_package(TroupeClient): troupe::client, the C++ client library.
include(CMakeFindDependencyMacro)
find_dependency(Threads)
find_dependency(cppzmq)
get_filename_component(_troupe_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
find_library(TroupeClient_LIBRARY troupe_client PATHS "${CMAKE_CURRENT_LIST_DIR}/../.." NO_DEFAULT_PATH)
find_path(TroupeClient_INCLUDE_DIR troupe/client.hpp
  PATHS "${_troupe_prefix}/include" "${_troupe_prefix}/../include" NO_DEFAULT_PATH)
find_path(TroupeClient_FLATBUFFERS_INCLUDE_DIR flatbuffers/flatbuffers.h)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(TroupeClient
  REQUIRED_VARS TroupeClient_LIBRARY TroupeClient_INCLUDE_DIR TroupeClient_FLATBUFFERS_INCLUDE_DIR)
if(TroupeClient_FOUND AND NOT TARGET troupe::client)
  add_library(troupe::client STATIC IMPORTED)
  set_target_properties(troupe::client PROPERTIES
    IMPORTED_LOCATION "${TroupeClient_LIBRARY}"
    INTERFACE_COMPILE_FEATURES cxx_std_20
    INTERFACE_INCLUDE_DIRECTORIES "${TroupeClient_INCLUDE_DIR}"
    INTERFACE_LINK_LIBRARIES "cppzmq;Threads::Threads")
  if(NOT TroupeClient_FLATBUFFERS_INCLUDE_DIR IN_LIST CMAKE_CXX_IMPLICIT_INCLUDE_DIRECTORIES)
    set_property(TARGET troupe::client APPEND PROPERTY
      INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${TroupeClient_FLATBUFFERS_INCLUDE_DIR}")
  endif()
endif()
