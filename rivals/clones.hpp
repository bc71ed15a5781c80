// SPDX-License-Identifier: MIT
//
// Clones of one snapshot that are reset on threads of their own, over memory that they share until
// they write it.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <memory>

#include "dirtyring/kvm/mapping.hpp"
#include "snapshot_loop.hpp"

namespace dirtyring::bench {

/// One thread, which waits for those that it starts.
class Clones {
  public:
    static constexpr std::size_t most = 2;

    /// Takes a snapshot of the guest, over a ring, and makes the clones. Errors: those of
    /// SnapshotLoop and Snapshot::map_memory.
    [[nodiscard]] static Result<std::unique_ptr<Clones>> create(const ResetCase& what);

    void write(std::uint64_t pages);
    /// How many rounds a second `count` of them make together, 1 to most, in about so long. Errors:
    /// those of ResetLoop::round.
    Result<double> rate(std::size_t count, std::chrono::nanoseconds time);
    /// As ResetLoop::check, of each.
    Result<void> check();

  private:
    struct Clone {
        kvm::Mapping memory;  // goes after its VM
        std::unique_ptr<SnapshotLoop> loop;
    };

    Clones() = default;

    std::array<Clone, most> clones_;
};

}  // namespace dirtyring::bench
