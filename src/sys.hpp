// SPDX-License-Identifier: MIT
//
// Every system call of the library, and nothing else. The tests link another sys.cpp that can make
// each of them fail (tests/support/faulty_sys.cpp).
//
// All of these return the call's own non-negative result, or -errno.
#pragma once

#include <sys/utsname.h>

#include <csignal>
#include <cstddef>

namespace dirtyring::sys {

int open(const char* path, int flags) noexcept;
int close(int fd) noexcept;
int ioctl(int fd, unsigned long request, void* argument) noexcept;
/// On success *address is the mapping; otherwise it is left alone.
int mmap(void** address, std::size_t length, int protection, int flags, int fd,
         long offset) noexcept;
int munmap(void* address, std::size_t length) noexcept;
int madvise(void* address, std::size_t length, int advice) noexcept;
int thread_sigmask(int how, const sigset_t* set, sigset_t* old) noexcept;
long pread(int fd, void* buffer, std::size_t length, long offset) noexcept;
/// Close-on-exec.
int memfd_create(const char* name) noexcept;
int ftruncate(int fd, long bytes) noexcept;
int uname(utsname* about) noexcept;
long page_size() noexcept;

}  // namespace dirtyring::sys
