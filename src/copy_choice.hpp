// SPDX-License-Identifier: MIT
//
// Which way pages are copied: the one that has taken the least time on this host.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "page_copy.hpp"

namespace dirtyring {

/// Each way is tried a few times, then the fastest is used, and now and then another one, in turn.
class CopyChoice {
  public:
    [[nodiscard]] PageCopy choose() noexcept {
        constexpr unsigned retry = 64;  // choices after which another one is tried
        if (pages_ != 0) {
            return ways_[used_].copy;  // not yet enough with this one
        }
        if (trials_ < tries * ways_.size()) {
            used_ = trials_ % ways_.size();
        } else if (++choices_ % retry == 0) {
            used_ = choices_ / retry % ways_.size();
        } else {
            used_ = best_;
        }
        return ways_[used_].copy;
    }
    /// What was chosen took so long for so many pages.
    void took(std::uint64_t pages, std::uint64_t nanoseconds) noexcept {
        constexpr std::uint64_t enough = 64;  // for the time to say something
        constexpr double weight = 0.2;
        pages_ += pages;
        nanoseconds_ += pages != 0 ? nanoseconds : 0;
        if (pages_ < enough) {
            return;
        }
        const double each = static_cast<double>(std::exchange(nanoseconds_, 0)) /
                            static_cast<double>(std::exchange(pages_, 0));
        double& cost = ways_[used_].cost;
        if (trials_ < tries * ways_.size()) {
            // The least: what comes in between only makes a way slower.
            cost = trials_ < ways_.size() ? each : std::min(cost, each);
            ++trials_;
        } else {
            cost += (each - cost) * weight;
        }
        for (std::size_t i = 0; i < std::min<std::size_t>(trials_, ways_.size()); ++i) {
            best_ = ways_[i].cost < ways_[best_].cost ? i : best_;
        }
    }

  private:
    struct Way {
        PageCopy copy;
        double cost = 0;  // nanoseconds a page, of those that have been tried
    };
    static std::vector<Way> all() {
        std::vector<Way> ways;
        for (const PageCopy copy : page_copies()) {
            ways.push_back({copy});
        }
        return ways;
    }

    std::vector<Way> ways_ = all();
    static constexpr std::size_t tries = 4;  // of each way
    std::size_t trials_ = 0;                 // so far
    std::size_t best_ = 0;
    std::size_t used_ = 0;
    std::uint64_t pages_ = 0;        // copied by it since it was chosen
    std::uint64_t nanoseconds_ = 0;  // that these took
    unsigned choices_ = 0;
};

}  // namespace dirtyring
