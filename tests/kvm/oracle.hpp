// SPDX-License-Identifier: MIT
//
// The oracle of all tracking tests: a copy of the whole guest memory, compared with the memory
// itself. A page that has changed and was not reported is a lost page.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "dirtyring/pages.hpp"

namespace dirtyring {

class Oracle {
  public:
    /// The guest must be stopped, and `memory` stay as it is for as long as this object is used.
    explicit Oracle(const MemoryMap& memory) : memory_(memory), copies_(memory.slots().size()) {
        for (std::size_t place = 0; place < copies_.size(); ++place) {
            const MemorySlot& slot = memory.slots()[place];
            copies_[place].assign(slot.host, slot.host + slot.size);
        }
    }

    /// Pages that have changed since the last call and are not in `reported`; what they are now is
    /// remembered. The guest must be stopped since before `reported` was collected.
    std::uint64_t lost(const Pages& reported) {
        std::uint64_t lost = 0;
        for (std::size_t place = 0; place < copies_.size(); ++place) {
            const MemorySlot& slot = memory_.slots()[place];
            for (std::uint64_t page = 0; page < slot.pages(); ++page) {
                const std::byte* now = slot.host + page * page_size;
                std::byte* then = copies_[place].data() + page * page_size;
                if (std::memcmp(now, then, page_size) == 0) {
                    continue;
                }
                ++changed_;
                std::memcpy(then, now, page_size);
                lost += reported.set().pages(place).contains(page) ? 0U : 1U;
            }
        }
        return lost;
    }

    /// Changed pages seen in all calls together.
    [[nodiscard]] std::uint64_t changed() const { return changed_; }

  private:
    const MemoryMap& memory_;
    std::vector<std::vector<std::byte>> copies_;
    std::uint64_t changed_ = 0;
};

}  // namespace dirtyring
