// SPDX-License-Identifier: MIT
//
// Signals as calls, on a thread of their own.
#pragma once

#include <signal.h>

#include <atomic>
#include <functional>
#include <thread>

namespace dirtyring::cli {

struct SignalHandlers {
    std::function<void(int signal)> stop;  ///< SIGINT, SIGTERM, SIGHUP
    std::function<void()> resized;         ///< SIGWINCH
    /// SIGTSTP: calls what it is given, which stops the process and returns when it goes on.
    std::function<void(const std::function<void()>& stop_here)> suspended;
};

/// While it lives the signals above come as calls and in no other way, but for those that were
/// ignored before, as under nohup: they stay so. To be made before the program's other threads,
/// which must not unblock them. SIGPIPE is ignored from then on, so that writing to a closed pipe
/// is an error like others.
class StopSignals {
  public:
    explicit StopSignals(SignalHandlers handlers);
    StopSignals(const StopSignals&) = delete;
    StopSignals& operator=(const StopSignals&) = delete;
    /// Waits for a handler that is at work.
    ~StopSignals();

  private:
    void loop();

    SignalHandlers handlers_;
    sigset_t handled_{};
    sigset_t before_{};
    std::atomic<bool> done_ = false;
    std::thread thread_;
};

}  // namespace dirtyring::cli
