# The development package: find_package(Troupe) gives troupe::abi, troupe::sdk and troupe_add_module.
include(CMakePackageConfigHelpers)
set(TROUPE_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/Troupe)

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/TroupeConfig.cmake.in
  ${PROJECT_BINARY_DIR}/TroupeConfig.cmake INSTALL_DESTINATION ${TROUPE_PACKAGE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/TroupeConfigVersion.cmake
  VERSION ${PROJECT_VERSION} COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)

install(EXPORT TroupeTargets NAMESPACE troupe:: DESTINATION ${TROUPE_PACKAGE_DIR} COMPONENT sdk)
install(FILES
  ${PROJECT_BINARY_DIR}/TroupeConfig.cmake
  ${PROJECT_BINARY_DIR}/TroupeConfigVersion.cmake
  ${PROJECT_SOURCE_DIR}/cmake/TroupeModule.cmake
  ${PROJECT_SOURCE_DIR}/cmake/TroupeModule.map
  DESTINATION ${TROUPE_PACKAGE_DIR} COMPONENT sdk)
install(FILES ${PROJECT_BINARY_DIR}/schemas/include/troupe/schemas/program_generated.h
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/troupe/schemas COMPONENT sdk)
install(FILES ${PROJECT_SOURCE_DIR}/schemas/program.fbs
  DESTINATION ${CMAKE_INSTALL_DATADIR}/troupe/schemas COMPONENT sdk)
