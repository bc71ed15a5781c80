// SPDX-License-Identifier: MIT
//
// A guest that runs and is tracked, from its start to its end.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "guest_file.hpp"
#include "machine/machine.hpp"
#include "machine_tracking.hpp"
#include "record.hpp"

namespace dirtyring::cli {

/// Lets a signal stop a machine that may not be there yet. Any thread.
class Interruption {
  public:
    void interrupt(int signal) {
        const std::lock_guard lock(mutex_);
        signal_ = signal;
        if (machine_ != nullptr) {
            machine_->stop();
        }
    }
    /// The machine to be stopped, at once if a signal has come before; nullptr: it goes.
    void watch(machine::Machine* machine) {
        const std::lock_guard lock(mutex_);
        machine_ = machine;
        if (machine_ != nullptr && signal_ != 0) {
            machine_->stop();
        }
    }
    /// 0: none has come.
    [[nodiscard]] int signal() const {
        const std::lock_guard lock(mutex_);
        return signal_;
    }

  private:
    mutable std::mutex mutex_;
    machine::Machine* machine_ = nullptr;
    int signal_ = 0;
};

/// While it lives, a signal stops the machine, which has been started. At its end the machine is
/// stopped and its vCPUs' threads call nothing any more.
class Running {
  public:
    Running(machine::Machine& machine, Interruption& interruption);
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;
    ~Running();

  private:
    machine::Machine& machine_;
    Interruption& interruption_;
};

/// What is run: `config` of a machine that is tracked.
[[nodiscard]] Header header_of(const GuestFile& guest, const machine::Config& config,
                               machine::Machine& machine, Track track,
                               std::chrono::nanoseconds interval);
/// Why a guest was stopped: "by SIGINT", or "after 2.00 s, as --seconds asked".
[[nodiscard]] std::string why_stopped(const Interruption& interruption,
                                      std::optional<std::chrono::nanoseconds> length);
/// When an interval ends that begins at `begin`. After a delay (a slow terminal, a busy host) it is
/// as long as ever, not what is left of it: rates of a moment's length say nothing.
[[nodiscard]] std::chrono::steady_clock::time_point interval_end(
    std::chrono::steady_clock::time_point begin, std::chrono::nanoseconds interval);
/// Waits until `time`, but at the latest until `end`, at which the machine is stopped. How its
/// vCPUs have ended; nothing if some still run.
[[nodiscard]] std::optional<std::vector<machine::End>> wait_for_ends(
    machine::Machine& machine, std::chrono::steady_clock::time_point time,
    std::chrono::steady_clock::time_point end);

struct SessionConfig {
    machine::Config machine;  ///< but for what tracking needs
    Track track = Track::ring;
    std::uint32_t ring_entries = 0;
    std::chrono::nanoseconds interval{};
    std::optional<std::chrono::nanoseconds> length;  ///< then the guest is stopped
    std::optional<std::uint64_t> limit;  ///< bytes a second that each vCPU may dirty; rings only
};

/// One thread.
class Session {
  public:
    /// Makes the machine and what tracks it; the guest does not run yet. `interruption` outlives
    /// the session. Errors: those of Machine::create and MachineTracking::create.
    [[nodiscard]] static Result<std::unique_ptr<Session>> create(const SessionConfig& config,
                                                                 const GuestFile& guest,
                                                                 Interruption& interruption);
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    ~Session() = default;

    [[nodiscard]] const Header& header() const noexcept { return header_; }
    /// Any thread.
    [[nodiscard]] Live live() const { return {config_.limit.value_or(0), tracking_->statistics()}; }
    /// Runs the guest to its end, or until it is stopped, and hands each interval to `use`. Errors:
    /// those of MachineTracking::start and collect, of Machine::start, and what `use` gives.
    [[nodiscard]] Result<Outcome> run(const std::function<Result<void>(const Interval&)>& use);

  private:
    using Clock = std::chrono::steady_clock;

    Session(SessionConfig config, Interruption& interruption)
        : config_(std::move(config)), interruption_(interruption) {}
    [[nodiscard]] Outcome outcome(const std::vector<machine::End>& ends) const;

    SessionConfig config_;
    Interruption& interruption_;
    Header header_;
    std::unique_ptr<machine::Machine> machine_;
    std::unique_ptr<MachineTracking> tracking_;
};

}  // namespace dirtyring::cli
