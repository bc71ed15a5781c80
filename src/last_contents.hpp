// SPDX-License-Identifier: MIT
//
// What the pages of a walk are to hold, for the next walk. Most guests write the same pages again
// and again, and what lies one behind the other is found for less than in a table of all pages,
// which has a cache line, and with much memory a translation of addresses, for each of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "page_copy.hpp"

namespace dirtyring {

/// One thread at a time.
class LastContents {
  public:
    struct Page {
        std::uint64_t number = 0;
        std::uint32_t walks = 0;  ///< in which it was in a row; as the user counts
        PageContent content;
    };

    /// A walk begins, which asks for pages in ascending order.
    void begin() noexcept {
        last_.swap(now_);
        now_.clear();
        next_ = 0;
    }
    /// What was kept of the page in the walk before; null where nothing was. Until the next walk.
    [[nodiscard]] const Page* find(std::uint64_t number) noexcept {
        while (next_ < last_.size() && last_[next_].number < number) {
            ++next_;
        }
        return next_ < last_.size() && last_[next_].number == number ? &last_[next_] : nullptr;
    }
    /// For the next walk.
    void keep(const Page& page) { now_.push_back(page); }

  private:
    std::vector<Page> last_;
    std::vector<Page> now_;
    std::size_t next_ = 0;  // of last_; all before it are below what was asked for
};

}  // namespace dirtyring
