// SPDX-License-Identifier: MIT
//
// Signals at random, at threads that have asked for them.
#pragma once

#include <pthread.h>

#include <csignal>
#include <cstdint>
#include <mutex>
#include <vector>

#include "guests/random.hpp"

namespace dirtyring::soak {

/// Any thread.
class SignalStorm {
  public:
    explicit SignalStorm(std::uint64_t seed) : random_(seed) {
        // Without SA_RESTART: system calls come back with EINTR.
        struct sigaction action{};
        action.sa_handler = [](int) {};
        ::sigemptyset(&action.sa_mask);
        ::sigaction(SIGUSR2, &action, nullptr);
    }

    /// A thread that may be hit for as long as this lives.
    class Target {
      public:
        explicit Target(SignalStorm& storm) : storm_(storm) {
            const std::lock_guard lock(storm_.mutex_);
            storm_.targets_.push_back(::pthread_self());
        }
        Target(const Target&) = delete;
        Target& operator=(const Target&) = delete;
        ~Target() {
            const std::lock_guard lock(storm_.mutex_);
            std::erase(storm_.targets_, ::pthread_self());
        }

      private:
        SignalStorm& storm_;
    };

    /// Hits one of them.
    void strike() {
        const std::lock_guard lock(mutex_);
        if (!targets_.empty() &&
            ::pthread_kill(targets_[random_.below(targets_.size())], SIGUSR2) == 0) {
            ++sent_;
        }
    }
    [[nodiscard]] std::uint64_t sent() {
        const std::lock_guard lock(mutex_);
        return sent_;
    }

  private:
    std::mutex mutex_;
    std::vector<pthread_t> targets_;
    guest::Random random_;
    std::uint64_t sent_ = 0;
};

}  // namespace dirtyring::soak
