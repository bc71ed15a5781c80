// SPDX-License-Identifier: MIT
//
// Copies of single pages, one behind the other in huge pages where the host has them: who walks
// many of them needs few translations, and the CPU fetches ahead.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "dirtyring/error.hpp"
#include "dirtyring/kvm/mapping.hpp"
#include "dirtyring/memory.hpp"
#include "page_copy.hpp"

namespace dirtyring {

/// One thread at a time.
class PageStore {
  public:
    PageStore() = default;
    /// For at most `most` of the pages below `numbers`. Takes no memory before pages are added.
    /// Errors: ENOMEM.
    [[nodiscard]] static Result<PageStore> create(std::uint64_t numbers, std::uint64_t most);

    /// The page's copy, or null bytes.
    [[nodiscard]] PageContent find(std::uint64_t number) const noexcept {
        const std::uint32_t place = places_[number];
        return place == 0
                   ? PageContent{}
                   : PageContent{copies_ + std::uint64_t{place - 1} * page_size, lines_[place - 1]};
    }
    /// Adds a copy of 4,096 bytes for a page that has none, and gives it; the bytes themselves
    /// where the store is full.
    PageContent add(std::uint64_t number, const std::byte* bytes) noexcept;

  private:
    kvm::Mapping mapping_;
    std::byte* copies_ = nullptr;
    kvm::Mapping lines_mapping_;
    std::span<std::uint64_t> lines_;     // PageContent::lines of each copy
    std::vector<std::uint32_t> places_;  // by number, from 1 on; 0: no copy
    std::uint64_t used_ = 0;
};

}  // namespace dirtyring
