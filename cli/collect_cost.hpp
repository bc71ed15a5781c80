// SPDX-License-Identifier: MIT
//
// How long one collect takes after a guest has written so many pages of a memory of some size.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "dirtyring/source/source.hpp"
#include "guest_file.hpp"
#include "guests/writer_plan.hpp"
#include "machine/machine.hpp"
#include "record.hpp"
#include "session.hpp"

namespace dirtyring::cli {

inline constexpr std::uint64_t least_memory = std::uint64_t{64} << 20;

struct CollectCase {
    std::uint64_t memory = 0;  ///< bytes of guest memory, at least least_memory
    std::uint64_t pages = 0;   ///< dirtied in each round, 2 to 4,096
    Track track = Track::ring;
    std::uint32_t ring_entries = 0;
    std::uint32_t rounds = 0;  ///< timed
};

/// One value a round.
struct CollectSamples {
    std::vector<double> nanoseconds;
    std::vector<double> pages;  ///< that the collect gave
};

/// The guest `writer` on one vCPU. In each round it writes `pages` different pages spread over all
/// of memory, its ledger's among them, and they are collected while the vCPU stands still after the
/// round. One thread.
class CollectCost {
  public:
    /// Errors: those of Machine::create, with the memory's size among them, and of Ring::map.
    [[nodiscard]] static Result<std::unique_ptr<CollectCost>> create(const CollectCase& what,
                                                                     const GuestFile& writer);

    /// Once. Fewer samples than asked for after a signal. Errors: those of Machine::start and
    /// Source::collect; code 0 where the guest failed, the ring was full within a round, or a
    /// collect did not give the pages that the guest had written, or too many others.
    Result<CollectSamples> run(Interruption& interruption);

  private:
    explicit CollectCost(const CollectCase& what);
    [[nodiscard]] machine::Callbacks callbacks();
    void collect();
    [[nodiscard]] Result<void> check(const Pages& pages) const;

    CollectCase case_;
    guest::WriterPlan plan_;
    std::unique_ptr<machine::Machine> machine_;
    std::unique_ptr<Source> source_;
    // Written on the vCPU's thread, read when that has ended:
    DirtySet storage_;
    std::uint32_t round_ = 0;
    CollectSamples samples_;
    Result<void> collected_;
};

}  // namespace dirtyring::cli
