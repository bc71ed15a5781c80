// SPDX-License-Identifier: MIT
//
// A guest that is to be reset after each round, and a copy of what it was, to reset it from and to
// see whether that was done.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "dirtyring/error.hpp"
#include "dirtyring/guest_state.hpp"
#include "dirtyring/kvm/mapping.hpp"
#include "guests/replay_plan.hpp"
#include "machine/round_machine.hpp"

namespace dirtyring::bench {

struct ResetCase {
    std::uint64_t memory = 0;        ///< bytes
    std::uint32_t ring_entries = 0;  ///< enough for a round
    machine::Program guest;
    std::vector<std::pair<std::string, std::string>> params;  ///< but for replay's
    /// Set: the guest is replay, told in each round what to write (guests/replay_plan.hpp).
    std::optional<std::uint64_t> lifetime;
};

/// What replay can write in a guest with so much memory.
[[nodiscard]] guest::ReplayPlan replay_plan(std::uint64_t memory, std::uint64_t lifetime);

/// One thread.
class ResetGuest {
  public:
    /// Runs it to where the snapshot is to be. `config` says how it is to be tracked; the rest is
    /// filled in. Errors: those of RoundMachine.
    [[nodiscard]] static Result<ResetGuest> create(machine::Config config, const ResetCase& what);
    /// A clone, from memory that is all there and outlives it; it has yet to be given its state.
    [[nodiscard]] static Result<ResetGuest> clone(machine::Config config, const ResetCase& what,
                                                  std::span<std::byte> memory);

    /// How many pages replay is to write in each round from now on; at first 1.
    void write(std::uint64_t pages) { pages_ = pages; }
    /// The next round. Errors: those of RoundMachine::run_round.
    Result<void> run();
    /// That of the next round.
    [[nodiscard]] std::uint64_t round() const { return round_; }
    /// Adds where in bytes() the pages lie that replay writes in a round, and the one that the host
    /// writes before it.
    void add_written(std::uint64_t round, std::vector<std::uint64_t>& offsets) const;
    /// Where the host writes replay's order; nothing for other guests.
    [[nodiscard]] std::optional<std::uint64_t> order() const;

    /// Keeps what the guest is now. Errors: those of mmap and VcpuState::take.
    Result<void> save();
    /// A page as it was, by where it lies in bytes().
    [[nodiscard]] const std::byte* saved(std::uint64_t offset) const {
        return static_cast<const std::byte*>(copy_.address()) + offset;
    }
    [[nodiscard]] const VcpuState& saved_state() const { return *state_; }
    /// Where in bytes() pages are not as they were.
    [[nodiscard]] std::vector<std::uint64_t> changed();
    /// An error unless all memory that the guest can write is as it was, but for the page with
    /// replay's order. Registers that are wrong show in the next round, which writes other pages.
    Result<void> check();

    [[nodiscard]] machine::Machine& machine() { return machine_.machine(); }
    [[nodiscard]] kvm_run& run_area() { return machine_.run_area(); }
    [[nodiscard]] std::span<std::byte> bytes() { return machine_.machine().bytes(); }
    /// The first address above the program's.
    [[nodiscard]] std::uint64_t heap() const { return heap_; }

  private:
    ResetGuest(machine::RoundMachine machine, const ResetCase& what);
    [[nodiscard]] static Result<machine::RoundMachine> make(machine::Config&& config,
                                                            const ResetCase& what);
    Result<void> warm_up();
    Result<void> log_dirty();
    template <typename Use>
    void for_each_page(Use&& use);

    machine::RoundMachine machine_;
    std::optional<guest::ReplayPlan> plan_;
    std::uint64_t heap_;
    std::uint64_t pages_ = 1;
    std::uint64_t round_ = 0;
    kvm::Mapping copy_;  // as large as memory, and only touched where that is not zero
    std::optional<VcpuState> state_;
};

}  // namespace dirtyring::bench
