// SPDX-License-Identifier: MIT
//
// The oracle of all tracking tests: a copy of the whole guest memory, compared with the memory
// itself. A page that has changed and was not reported is a lost page.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "dirtyring/pages.hpp"
#include "machine/machine.hpp"

namespace dirtyring {

/// How much of a test's amounts is done: DIRTYRING_TEST_SCALE, 1 where it is not set. Emulated
/// hardware and sanitizers take a small part of them.
inline double test_scale() {
    const char* text = std::getenv("DIRTYRING_TEST_SCALE");
    return text == nullptr ? 1.0 : std::strtod(text, nullptr);
}

class Oracle {
  public:
    /// The machine must be paused, or not have been started.
    explicit Oracle(machine::Machine& machine)
        : machine_(machine), copies_(machine.memory().slots().size()) {
        for (std::size_t place = 0; place < copies_.size(); ++place) {
            const MemorySlot& slot = machine.memory().slots()[place];
            copies_[place].assign(slot.host, slot.host + slot.size);
        }
    }

    /// Pages that have changed since the last call and are not in `reported`; what they are now is
    /// remembered. The machine must be paused since before `reported` was collected.
    std::uint64_t lost(const Pages& reported) {
        std::uint64_t lost = 0;
        for (std::size_t place = 0; place < copies_.size(); ++place) {
            const MemorySlot& slot = machine_.memory().slots()[place];
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
    machine::Machine& machine_;
    std::vector<std::vector<std::byte>> copies_;
    std::uint64_t changed_ = 0;
};

}  // namespace dirtyring
