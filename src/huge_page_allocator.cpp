// SPDX-License-Identifier: MIT
#include "dirtyring/huge_page_allocator.hpp"

#include <sys/mman.h>

#include "sys.hpp"

namespace dirtyring {

void advise_huge_pages(void* memory, std::size_t bytes) noexcept {
    static_cast<void>(sys::madvise(memory, bytes, MADV_HUGEPAGE));
}

}  // namespace dirtyring
