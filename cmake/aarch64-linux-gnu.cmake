# SPDX-License-Identifier: MIT
#
# Builds for arm64 on another machine, and runs the tests on an emulated one:
#
#     cmake -S . -B build/arm64 --toolchain cmake/aarch64-linux-gnu.cmake
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR ${CMAKE_CURRENT_LIST_DIR}/../tools/emulated-host --arch aarch64 --timeout 900)
