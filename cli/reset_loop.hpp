// SPDX-License-Identifier: MIT
//
// A guest that is reset to a snapshot after each round of its work, and what that takes.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dirtyring/kvm/run.hpp"
#include "dirtyring/snapshot.hpp"
#include "dirtyring/tracker.hpp"
#include "guest_file.hpp"
#include "machine/machine.hpp"
#include "machine/resetting.hpp"
#include "record.hpp"
#include "session.hpp"

namespace dirtyring::cli {

/// What the time of a round goes into.
enum class ResetPart : std::uint8_t {
    guest,    ///< from its entry to the end of its round
    harvest,  ///< reading the ring
    rearm,    ///< KVM_RESET_DIRTY_RINGS
    collect,  ///< with a bitmap both at once
    copy,     ///< pages
    state,    ///< registers
    verify,
    rest
};
/// As tables have it.
[[nodiscard]] std::string_view name(ResetPart part) noexcept;
/// Those that there are, the rest last.
[[nodiscard]] std::vector<ResetPart> reset_parts(Track track, bool verify);

/// Of some rounds: sums, unless it says otherwise.
struct ResetFigures {
    std::uint64_t rounds = 0;
    std::uint64_t pages = 0;       ///< that may have been written, round by round
    std::uint64_t changed = 0;     ///< of these, found different
    std::uint64_t hot = 0;         ///< left writable after the last round; no sum
    std::uint64_t everything = 0;  ///< rounds after which all memory was compared, after a loss
    std::uint64_t full_exits = 0;  ///< KVM_EXIT_DIRTY_RING_FULL
    std::uint64_t nanoseconds = 0;

    /// Nanoseconds that went into a part.
    [[nodiscard]] std::uint64_t of(ResetPart part) const noexcept;
    void add(ResetPart part, std::uint64_t more) noexcept {
        parts_[static_cast<std::size_t>(part)] += more;
    }
    /// `sum`, of all rounds of a loop, in a round; 0 where there was none.
    [[nodiscard]] double in_a_round(std::uint64_t sum) const noexcept {
        return rounds == 0 ? 0 : static_cast<double>(sum) / static_cast<double>(rounds);
    }
    /// What has been added since these were `before`.
    [[nodiscard]] ResetFigures since(const ResetFigures& before) const noexcept;

  private:
    std::array<std::uint64_t, static_cast<std::size_t>(ResetPart::rest)> parts_{};
};

/// How far it is.
struct ResetState {
    std::uint64_t elapsed_ns = 0;   ///< since the guest's start
    std::uint64_t warm_up = 0;      ///< rounds done before the snapshot, of machine::warm_up_rounds
    std::uint64_t snapshot_ns = 0;  ///< what taking the snapshot took; 0: it is not there yet
    ResetFigures total;             ///< since the snapshot
    ResetFigures last;              ///< of the rounds that ended in the last interval
};

struct ResetConfig {
    machine::Config machine;  ///< but for what tracking needs; one vCPU
    Track track = Track::ring;
    std::uint32_t ring_entries = 0;
    std::chrono::nanoseconds interval{};
    std::optional<std::uint64_t> rounds;             ///< then it is done
    std::optional<std::chrono::nanoseconds> length;  ///< then the guest is stopped
    bool verify = false;
};

/// The vCPU's thread resets the guest when it has finished a round; all calls are one other
/// thread's.
class ResetLoop {
  public:
    /// Makes the machine and what tracks it; the guest does not run yet. `interruption` outlives
    /// the loop. Errors: those of Machine::create, Tracker::add_vcpu and kvm::Run::map.
    [[nodiscard]] static Result<std::unique_ptr<ResetLoop>> create(const ResetConfig& config,
                                                                   const GuestFile& guest,
                                                                   Interruption& interruption);
    ResetLoop(const ResetLoop&) = delete;
    ResetLoop& operator=(const ResetLoop&) = delete;
    ~ResetLoop() = default;

    [[nodiscard]] const ResetConfig& config() const noexcept { return config_; }
    [[nodiscard]] const Header& header() const noexcept { return header_; }
    /// Runs the guest to its end, or until it has made its rounds or is stopped, and hands the
    /// state to `use` after each interval and at the end. The outcome is a failure where the guest
    /// ended, or was not as in the snapshot after a reset. Errors: those of Machine::start, and
    /// what `use` gives.
    [[nodiscard]] Result<Outcome> run(const std::function<Result<void>(const ResetState&)>& use);

  private:
    using Clock = std::chrono::steady_clock;

    ResetLoop(ResetConfig config, Interruption& interruption)
        : config_(std::move(config)), interruption_(interruption) {}
    Result<void> prepare();
    [[nodiscard]] ResetState state() const;
    [[nodiscard]] Outcome outcome(const machine::End& end) const;

    // The vCPU's thread:
    Result<void> ring_full();
    void round_done();
    Result<void> warm_up();
    Result<void> take_snapshot();
    Result<void> reset();
    Result<void> verify() const;
    void note_harvest(ResetFigures& round);

    const ResetConfig config_;
    Interruption& interruption_;
    Header header_;
    std::unique_ptr<machine::Machine> machine_;
    std::optional<Tracker> tracker_;
    std::optional<kvm::Run> run_;  // for kvm_run, where registers are left; never run by it

    // The vCPU's thread's:
    std::optional<Snapshot> snapshot_;
    Clock::time_point begun_;    // the round at hand
    std::uint64_t full_ns_ = 0;  // spent in ring_full in it
    std::uint64_t full_exits_ = 0;
    std::uint64_t harvest_ns_ = 0;  // of all time, as it was told last
    std::uint64_t rearm_ns_ = 0;

    mutable std::mutex mutex_;
    ResetState state_;             // but for elapsed_ns and last
    std::optional<Error> failed_;  // what has stopped it from within
};

}  // namespace dirtyring::cli
