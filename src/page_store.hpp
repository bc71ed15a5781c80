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
        return place < enough ? PageContent{}
                              : PageContent{copies_ + std::uint64_t{place - enough} * page_size,
                                            lines_[place - enough]};
    }
    /// Counts that a page without a copy was wanted. True where that has been so often that a copy
    /// is worth its memory, and the time to make it.
    [[nodiscard]] bool wanted_enough(std::uint64_t number) noexcept {
        const bool now = places_[number] == enough - 1;
        places_[number] += now ? 0U : 1U;
        return now;
    }
    /// Adds a copy of 4,096 bytes for a page that has none, and gives it; the bytes themselves
    /// where the store is full.
    PageContent add(std::uint64_t number, const std::byte* bytes) noexcept;

  private:
    // A copy takes some 10 times as long to make, in memory that is new to the host, as it saves
    // each time.
    static constexpr std::uint32_t enough = 16;

    kvm::Mapping mapping_;
    std::byte* copies_ = nullptr;
    kvm::Mapping lines_mapping_;
    std::span<std::uint64_t> lines_;  // PageContent::lines of each copy
    // By number: how often it was wanted, or from `enough` on the place of its copy.
    std::vector<std::uint32_t> places_;
    std::uint64_t used_ = 0;
};

}  // namespace dirtyring
