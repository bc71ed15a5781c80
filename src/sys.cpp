// SPDX-License-Identifier: MIT
#include "sys.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

namespace dirtyring::sys {

namespace {

template <typename T>
T or_errno(T result) noexcept {
    return result < 0 ? static_cast<T>(-errno) : result;
}

}  // namespace

int open(const char* path, int flags) noexcept {
    return or_errno(::open(path, flags));
}

int close(int fd) noexcept {
    return or_errno(::close(fd));
}

int ioctl(int fd, unsigned long request, void* argument) noexcept {
    // SAFETY: the kernel reads and writes at most what `request` describes; each caller pairs the
    // request with an object of exactly that layout (kvm/ioctl.hpp checks the size at compile
    // time).
    return or_errno(::ioctl(fd, request, argument));
}

int mmap(void** address, std::size_t length, int protection, int flags, int fd,
         long offset) noexcept {
    // SAFETY: the kernel picks the place (no MAP_FIXED), so no existing object is replaced.
    void* mapping = ::mmap(nullptr, length, protection, flags, fd, offset);
    if (mapping == MAP_FAILED) {
        return -errno;
    }
    *address = mapping;
    return 0;
}

int munmap(void* address, std::size_t length) noexcept {
    return or_errno(::munmap(address, length));
}

int madvise(void* address, std::size_t length, int advice) noexcept {
    return or_errno(::madvise(address, length, advice));
}

int thread_sigmask(int how, const sigset_t* set, sigset_t* old) noexcept {
    return -::pthread_sigmask(how, set, old);
}

long pread(int fd, void* buffer, std::size_t length, long offset) noexcept {
    return or_errno(::pread(fd, buffer, length, offset));
}

int memfd_create(const char* name) noexcept {
    return or_errno(::memfd_create(name, MFD_CLOEXEC));
}

int ftruncate(int fd, long bytes) noexcept {
    return or_errno(::ftruncate(fd, bytes));
}

int uname(utsname* about) noexcept {
    return or_errno(::uname(about));
}

long page_size() noexcept {
    return ::sysconf(_SC_PAGESIZE);
}

}  // namespace dirtyring::sys
