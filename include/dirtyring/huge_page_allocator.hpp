// SPDX-License-Identifier: MIT
//
// Memory for tables that are large and of which few places are used, far apart: in huge pages one
// translation of addresses serves them all.
#pragma once

#include <cstddef>
#include <new>

namespace dirtyring {

/// The size of a huge page, and what its address is a multiple of, where other pages have 4 KiB.
inline constexpr std::size_t huge_page = std::size_t{2} << 20;

/// Asks for huge pages for this memory (MADV_HUGEPAGE; Documentation/admin-guide/mm/transhuge.rst).
/// A host without them refuses, and small pages do as well. Any thread.
void advise_huge_pages(void* memory, std::size_t bytes) noexcept;

/// For std::vector. Allocates as std::allocator does, but in huge pages where that wastes no more
/// than three quarters of one. Any thread.
template <typename T>
struct HugePageAllocator {
    using value_type = T;

    HugePageAllocator() = default;
    template <typename U>
    HugePageAllocator(const HugePageAllocator<U>& /*other*/) noexcept {}

    [[nodiscard]] T* allocate(std::size_t count) {
        const std::size_t bytes = count * sizeof(T);
        if (bytes < least) {
            return static_cast<T*>(::operator new(bytes));
        }
        void* const memory = ::operator new(rounded(bytes), alignment);
        advise_huge_pages(memory, rounded(bytes));
        return static_cast<T*>(memory);
    }
    void deallocate(T* memory, std::size_t count) noexcept {
        const std::size_t bytes = count * sizeof(T);
        if (bytes < least) {
            ::operator delete(memory);
        } else {
            ::operator delete(memory, alignment);
        }
    }
    bool operator==(const HugePageAllocator& /*other*/) const noexcept { return true; }

  private:
    static constexpr std::size_t least = huge_page / 4;
    static constexpr std::align_val_t alignment{huge_page};
    static std::size_t rounded(std::size_t bytes) noexcept {
        return (bytes + huge_page - 1) / huge_page * huge_page;
    }
};

}  // namespace dirtyring
