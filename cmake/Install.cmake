# The development package, component sdk: find_package(Troupe) gives troupe::abi, troupe::sdk and troupe_add_module;
# pkg-config troupe-sdk the same for other build systems; share/troupe/template is what `troupe module new` writes.
include(CMakePackageConfigHelpers)
include(TroupeFlatBuffers)
set(TROUPE_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/Troupe)

# The installed header program_generated.h fits the FlatBuffers that generated it.
find_path(TROUPE_FLATBUFFERS_INCLUDE_DIR flatbuffers/flatbuffers.h REQUIRED)
mark_as_advanced(TROUPE_FLATBUFFERS_INCLUDE_DIR)
troupe_flatbuffers_version(TROUPE_FLATBUFFERS_VERSION ${TROUPE_FLATBUFFERS_INCLUDE_DIR})

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/TroupeConfig.cmake.in
  ${PROJECT_BINARY_DIR}/TroupeConfig.cmake INSTALL_DESTINATION ${TROUPE_PACKAGE_DIR} PATH_VARS CMAKE_INSTALL_BINDIR)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/TroupeConfigVersion.cmake
  VERSION ${PROJECT_VERSION} COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)

install(EXPORT TroupeTargets NAMESPACE troupe:: DESTINATION ${TROUPE_PACKAGE_DIR} COMPONENT sdk)
install(FILES
  ${PROJECT_BINARY_DIR}/TroupeConfig.cmake
  ${PROJECT_BINARY_DIR}/TroupeConfigVersion.cmake
  ${PROJECT_SOURCE_DIR}/cmake/TroupeFlatBuffers.cmake
  ${PROJECT_SOURCE_DIR}/cmake/TroupeModule.cmake
  ${PROJECT_SOURCE_DIR}/cmake/TroupeModule.map
  DESTINATION ${TROUPE_PACKAGE_DIR} COMPONENT sdk)
install(FILES ${PROJECT_BINARY_DIR}/schemas/include/troupe/schemas/program_generated.h
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/troupe/schemas COMPONENT sdk)
install(FILES ${PROJECT_SOURCE_DIR}/schemas/program.fbs
  DESTINATION ${CMAKE_INSTALL_DATADIR}/troupe/schemas COMPONENT sdk)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/sandbox/template/
  DESTINATION ${CMAKE_INSTALL_DATADIR}/troupe/template COMPONENT sdk)

# An installation may be moved as a whole: paths in the .pc file are told from its own place.
check_cxx_compiler_flag(-fno-gnu-unique TROUPE_HAS_NO_GNU_UNIQUE)
set(TROUPE_PC_UNIQUE)
if(TROUPE_HAS_NO_GNU_UNIQUE)
  set(TROUPE_PC_UNIQUE -fno-gnu-unique)
endif()
file(RELATIVE_PATH TROUPE_PC_PREFIX /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
configure_file(${PROJECT_SOURCE_DIR}/cmake/troupe-sdk.pc.in ${PROJECT_BINARY_DIR}/troupe-sdk.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/troupe-sdk.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT sdk)
