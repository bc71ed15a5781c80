# SPDX-License-Identifier: MIT
#
# What our own targets are compiled with and a user's are not: warnings as errors (only when this project is
# the top level) and the sanitizers asked for.
add_library(dirtyring_options INTERFACE)
if(PROJECT_IS_TOP_LEVEL)
  target_compile_options(
    dirtyring_options
    INTERFACE -Werror
              -Wall
              -Wextra
              -Wpedantic
              -Wconversion
              -Wsign-conversion
              -Wshadow
              -Wnon-virtual-dtor
              -Woverloaded-virtual
              -Wformat=2)
endif()

if(DIRTYRING_SANITIZE STREQUAL "address")
  # With a sanitizer's code between it and what it looks at, GCC sees uninitialised variables that are none.
  set(sanitizers -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
elseif(DIRTYRING_SANITIZE STREQUAL "thread")
  set(sanitizers -fsanitize=thread -fno-omit-frame-pointer)
elseif(NOT DIRTYRING_SANITIZE STREQUAL "")
  message(FATAL_ERROR "DIRTYRING_SANITIZE is \"${DIRTYRING_SANITIZE}\"; use address or thread")
endif()
target_compile_options(dirtyring_options INTERFACE ${sanitizers})
target_link_options(dirtyring_options INTERFACE ${sanitizers})
