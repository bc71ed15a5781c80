// SPDX-License-Identifier: MIT
//
// Which pages the guest `writer` reads and writes, and what it stores there, as a function of its
// parameters, the vCPU and the round. A test on the host includes this to know what the guest must
// have done.
//
// The working set begins at Info::heap_base. Each vCPU owns a slice of its pages (`slice` of
// runtime.hpp) and touches no other. After the working set comes the ledger, 8 bytes a page of the
// working set, in which the guest notes what it stored last; it is written along with the pages.
#pragma once

#include <algorithm>
#include <cstdint>

#include "random.hpp"

namespace dirtyring::guest {

/// In the order of the parameter's choices.
enum class WriterPattern : std::uint8_t { sequential, uniform, zipf, stride };

inline constexpr const char* writer_pattern_choices = "sequential|uniform|zipf|stride";

/// What one vCPU does in each round.
struct WriterPlan {
    WriterPattern pattern;
    std::uint64_t pages;       ///< pages of this vCPU's slice, 1 .. 2^32
    std::uint64_t writes;      ///< page writes of this vCPU in a round, below 2^32 / vcpus
    std::uint64_t read_share;  ///< percent of the accesses that are reads, 0 .. 99
    std::uint64_t stride;      ///< pages from one access to the next, at least 1; for `stride`
    std::uint64_t seed;
    std::uint32_t vcpu;
    std::uint32_t vcpus;
};

struct WriterAccess {
    std::uint64_t page;   ///< 0 .. pages - 1 of the slice
    std::uint64_t stamp;  ///< what is stored; 0: the page is only read
};

/// Where in a page its stamp is, in bytes: always the same for a page, and 8-byte aligned. `page`
/// counts from the begin of the whole working set.
constexpr std::uint64_t writer_stamp_offset(std::uint64_t page) {
    return mix64(page) % 512 * 8;
}

/// The accesses of one vCPU in one round, in order.
class WriterRound {
  public:
    /// `round` counts from 1.
    constexpr WriterRound(const WriterPlan& plan, std::uint64_t round)
        : plan_(plan),
          round_(round),
          random_(plan.seed, plan.vcpu, round),
          zipf_(plan.pages),
          scatter_(plan.pages),
          stride_(plan.pattern == WriterPattern::stride ? std::min(plan.stride, plan.pages) : 1),
          rows_((plan.pages + stride_ - 1) / stride_),
          // Each round goes on about where the one before ended.
          position_((round - 1) % (rows_ * stride_) * plan.writes % (rows_ * stride_)) {}

    /// Whether the round has not ended yet. It ends with its last write.
    constexpr bool more() const { return written_ < plan_.writes; }

    constexpr WriterAccess next() {
        const bool read = plan_.read_share != 0 && random_.below(100) < plan_.read_share;
        const std::uint64_t page = next_page();
        if (read) {
            return {page, 0};
        }
        // The round, and a number that no other write of the round on any vCPU has.
        const std::uint64_t number = written_++ * plan_.vcpus + plan_.vcpu;
        return {page, round_ << 32 | number};
    }

  private:
    constexpr std::uint64_t next_page() {
        switch (plan_.pattern) {
            case WriterPattern::uniform:
                return random_.below(plan_.pages);
            case WriterPattern::zipf:
                return scatter_.at(zipf_.draw(random_));
            case WriterPattern::sequential:
            case WriterPattern::stride:
                break;
        }
        // Down the columns of a table that has the pages in rows of `stride_`; the last row may be
        // shorter.
        for (;;) {
            const std::uint64_t page = position_ % rows_ * stride_ + position_ / rows_;
            position_ = position_ + 1 == rows_ * stride_ ? 0 : position_ + 1;
            if (page < plan_.pages) {
                return page;
            }
        }
    }

    WriterPlan plan_;
    std::uint64_t round_;
    Random random_;
    Zipf zipf_;
    Scatter scatter_;
    std::uint64_t stride_;
    std::uint64_t rows_;
    std::uint64_t position_;
    std::uint64_t written_ = 0;
};

}  // namespace dirtyring::guest
