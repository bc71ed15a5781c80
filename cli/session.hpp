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

#include "guest_file.hpp"
#include "machine/machine.hpp"
#include "record.hpp"
#include "tracker.hpp"

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

struct SessionConfig {
    machine::Config machine;  ///< but for what tracking needs
    Track track = Track::ring;
    std::uint32_t ring_entries = 0;
    std::chrono::nanoseconds interval{};
    std::optional<std::chrono::nanoseconds> limit;  ///< then the guest is stopped
};

/// One thread.
class Session {
  public:
    /// Makes the machine and what tracks it; the guest does not run yet. `interruption` outlives
    /// the session. Errors: those of Machine::create and Tracker::create.
    [[nodiscard]] static Result<std::unique_ptr<Session>> create(const SessionConfig& config,
                                                                 const GuestFile& guest,
                                                                 Interruption& interruption);
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    /// Stops the guest if it still runs.
    ~Session();

    [[nodiscard]] const Header& header() const noexcept { return header_; }
    /// Runs the guest to its end, or until it is stopped, and hands each interval to `use`. Errors:
    /// those of Machine::start and Tracker::collect, and what `use` gives.
    [[nodiscard]] Result<Outcome> run(const std::function<Result<void>(const Interval&)>& use);

  private:
    using Clock = std::chrono::steady_clock;

    Session(SessionConfig config, Interruption& interruption)
        : config_(std::move(config)), interruption_(interruption) {}
    void tell_header(const GuestFile& guest);
    [[nodiscard]] std::optional<std::vector<machine::End>> wait_until(Clock::time_point time);
    [[nodiscard]] Outcome outcome(const std::vector<machine::End>& ends) const;

    SessionConfig config_;
    Interruption& interruption_;
    Header header_;
    std::unique_ptr<machine::Machine> machine_;
    std::unique_ptr<Tracker> tracker_;
    bool started_ = false;
};

}  // namespace dirtyring::cli
