# The development package: find_package(Troupe) gives troupe::abi, troupe::sdk and troupe_add_module.
include(CMakePackageConfigHelpers)
include(TroupeFlatBuffers)
set(TROUPE_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/Troupe)

# The installed header program_generated.h fits the FlatBuffers that generated it.
find_path(TROUPE_FLATBUFFERS_INCLUDE_DIR flatbuffers/flatbuffers.h REQUIRED)
mark_as_advanced(TROUPE_FLATBUFFERS_INCLUDE_DIR)
troupe_flatbuffers_version(TROUPE_FLATBUFFERS_VERSION ${TROUPE_FLATBUFFERS_INCLUDE_DIR})

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/TroupeConfig.cmake.in
  ${PROJECT_BINARY_DIR}/TroupeConfig.cmake INSTALL_DESTINATION ${TROUPE_PACKAGE_DIR})
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
