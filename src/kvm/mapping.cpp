// SPDX-License-Identifier: MIT
#include "dirtyring/kvm/mapping.hpp"

#include <sys/mman.h>

#include "../sys.hpp"

namespace dirtyring::kvm {

Result<Mapping> Mapping::map(const Fd& fd, std::size_t bytes, long offset, const char* what) {
    Mapping mapping;
    // SAFETY: a fresh mapping of the kernel's choosing that only this object knows and undoes.
    const int result =
        sys::mmap(&mapping.address_, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), offset);
    if (result < 0) {
        return fail({-result,
                     std::string("mmap(") + what + ", " + std::to_string(bytes) + " bytes)",
                     {},
                     {}});
    }
    mapping.bytes_ = bytes;
    return mapping;
}

Mapping::~Mapping() {
    if (address_ != nullptr) {
        // munmap of a whole mapping that exists cannot fail.
        static_cast<void>(sys::munmap(address_, bytes_));
    }
}

}  // namespace dirtyring::kvm
