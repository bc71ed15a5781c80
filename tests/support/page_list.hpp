// SPDX-License-Identifier: MIT
//
// Pages as tests write them down and GoogleTest prints them.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "dirtyring/dirty_set.hpp"

namespace dirtyring::fake {

using Page = std::pair<std::uint32_t, std::uint64_t>;  // slot, page in it
using PageList = std::vector<Page>;

inline PageList range(std::uint32_t slot, std::uint64_t first, std::uint64_t count) {
    PageList all;
    for (std::uint64_t i = 0; i < count; ++i) {
        all.emplace_back(slot, first + i);
    }
    return all;
}

inline PageList list_of(const DirtySet& set) {
    PageList all;
    set.for_each_run([&](const PageRun& run) {
        for (std::uint64_t i = 0; i < run.count; ++i) {
            all.emplace_back(run.slot->slot, run.first + i);
        }
    });
    return all;
}

/// Every page of these slots of which `is(Page)` is true.
template <typename Is>
PageList pages_where(const MemoryMap& memory, Is is) {
    PageList all;
    for (const MemorySlot& slot : memory.slots()) {
        for (std::uint64_t page = 0; page < slot.pages(); ++page) {
            if (is(Page(slot.slot, page))) {
                all.emplace_back(slot.slot, page);
            }
        }
    }
    return all;
}

}  // namespace dirtyring::fake
