// SPDX-License-Identifier: MIT
#include "dirtyring/kvm/mapping.hpp"

#include <sys/mman.h>

#include "../sys.hpp"

namespace dirtyring::kvm {

namespace {

Result<void> map_at(void** address, std::size_t bytes, int flags, int fd, long offset,
                    const char* what) {
    // SAFETY: a fresh mapping of the kernel's choosing that only its Mapping knows and undoes.
    const int result = sys::mmap(address, bytes, PROT_READ | PROT_WRITE, flags, fd, offset);
    if (result < 0) {
        return fail({-result,
                     std::string("mmap(") + what + ", " + std::to_string(bytes) + " bytes)",
                     {},
                     {}});
    }
    return {};
}

}  // namespace

Result<Mapping> Mapping::map(const Fd& fd, std::size_t bytes, long offset, const char* what) {
    Mapping mapping;
    mapping.bytes_ = bytes;
    return map_at(&mapping.address_, bytes, MAP_SHARED, fd.get(), offset, what).map([&] {
        return std::move(mapping);
    });
}

Result<Mapping> Mapping::anonymous(std::size_t bytes, const char* what) {
    Mapping mapping;
    mapping.bytes_ = bytes;
    constexpr int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    return map_at(&mapping.address_, bytes, flags, -1, 0, what).map([&] {
        return std::move(mapping);
    });
}

Result<Mapping> Mapping::copy_on_write(const Fd& fd, std::size_t bytes, const char* what) {
    Mapping mapping;
    mapping.bytes_ = bytes;
    constexpr int flags = MAP_PRIVATE | MAP_NORESERVE;
    return map_at(&mapping.address_, bytes, flags, fd.get(), 0, what).map([&] {
        return std::move(mapping);
    });
}

Mapping::~Mapping() {
    if (address_ != nullptr) {
        // munmap of a whole mapping that exists cannot fail.
        static_cast<void>(sys::munmap(address_, bytes_));
    }
}

}  // namespace dirtyring::kvm
