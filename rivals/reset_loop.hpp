// SPDX-License-Identifier: MIT
//
// A guest that is reset to a snapshot after each round, in one of several ways.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "dirtyring/error.hpp"
#include "dirtyring/probe.hpp"
#include "reset_guest.hpp"

namespace dirtyring::bench {

/// In the order of the tables.
enum class Reset : std::uint8_t {
    alone,   ///< the guest runs on: neither tracking nor restoring
    limit,   ///< no tracking; memcpy of the pages that it dirties, which are known; registers
    ours,    ///< Snapshot over a ring, hot pages left writable
    manual,  ///< Snapshot over the manually protected bitmap, hot pages left writable
    ring,    ///< a Consumer over a ring, memcpy, registers
    bitmap,  ///< KVM_GET_DIRTY_LOG, memcpy, registers
    wtf,     ///< the way of wtf: manually protected bitmap, memcpy, registers
    nyx      ///< the way of QEMU-Nyx: ring, memcpy, registers
};
inline constexpr std::array all_resets = {Reset::alone, Reset::limit,  Reset::ours, Reset::manual,
                                          Reset::ring,  Reset::bitmap, Reset::wtf,  Reset::nyx};
/// Those that restore every page that was written, from a plain copy, and arm it again: as one does
/// without Snapshot.
inline constexpr std::array peer_resets = {Reset::ring, Reset::bitmap, Reset::wtf, Reset::nyx};

[[nodiscard]] std::string_view name(Reset reset) noexcept;
/// The facility of the kernel that it uses.
[[nodiscard]] std::optional<Tracking> tracking_of(Reset reset) noexcept;

/// One thread.
class ResetLoop {
  public:
    virtual ~ResetLoop() = default;

    /// How many pages the guest replay is to write in each round from now on.
    virtual void write(std::uint64_t pages) = 0;
    /// To be called before so many rounds, outside of what is timed.
    virtual void prepare(std::uint64_t rounds) = 0;
    /// A round of the guest, and back. Errors: those of KVM_RUN and of the way's calls; code 0
    /// where the guest ended.
    virtual Result<void> round() = 0;
    /// After a round: as ResetGuest::check, where the way restores anything.
    virtual Result<void> check() = 0;
    /// Pages that it restored in the last round.
    [[nodiscard]] virtual std::uint64_t pages() const = 0;
    /// Pages that it leaves writable now.
    [[nodiscard]] virtual std::uint64_t hot() const = 0;
};

/// Errors: those of Machine::create, and of what the way is made of.
[[nodiscard]] Result<std::unique_ptr<ResetLoop>> make_loop(Reset reset, const ResetCase& what);

}  // namespace dirtyring::bench
