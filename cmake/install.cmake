# SPDX-License-Identifier: MIT
#
# What `cmake --install` leaves behind for other projects: the library, its headers, a CMake package and a pkg-config
# file. A project that takes dirtyring in by add_subdirectory installs nothing of it unless it asks to.

option(DIRTYRING_INSTALL "Make the install target" ${PROJECT_IS_TOP_LEVEL})
if(NOT DIRTYRING_INSTALL)
  return()
endif()

include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/dirtyring)

install(TARGETS dirtyring EXPORT dirtyring-targets)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/dirtyring TYPE INCLUDE FILES_MATCHING PATTERN "*.hpp")
install(EXPORT dirtyring-targets NAMESPACE dirtyring:: DESTINATION ${package_dir})

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/dirtyring-config.cmake.in
                              ${PROJECT_BINARY_DIR}/dirtyring-config.cmake
                              INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO)
# Before 1.0 a new minor version may change the interface.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/dirtyring-config-version.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/dirtyring-config.cmake ${PROJECT_BINARY_DIR}/dirtyring-config-version.cmake
        DESTINATION ${package_dir})

# tl/expected.hpp has no pkg-config file on Debian: its directory goes into ours where compilers do not look by themselves.
get_target_property(expected_includes tl::expected INTERFACE_INCLUDE_DIRECTORIES)
list(REMOVE_ITEM expected_includes ${CMAKE_CXX_IMPLICIT_INCLUDE_DIRECTORIES})
list(TRANSFORM expected_includes PREPEND " -I" OUTPUT_VARIABLE DIRTYRING_EXPECTED_CFLAGS)
list(JOIN DIRTYRING_EXPECTED_CFLAGS "" DIRTYRING_EXPECTED_CFLAGS)
# The prefix as seen from the file itself, so that `cmake --install --prefix` and a move of the tree keep it right.
file(RELATIVE_PATH DIRTYRING_PC_TO_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(${CMAKE_CURRENT_LIST_DIR}/dirtyring.pc.in ${PROJECT_BINARY_DIR}/dirtyring.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/dirtyring.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE TYPE DOC)
