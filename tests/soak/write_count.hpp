// SPDX-License-Identifier: MIT
//
// How many pages the guest says that it has written: what all other threads of a run go by.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace dirtyring::soak {

/// Any thread.
class WriteCount {
  public:
    void add(std::uint64_t writes) {
        const std::lock_guard lock(mutex_);
        count_ += writes;
        changed_.notify_all();
    }
    [[nodiscard]] std::uint64_t now() {
        const std::lock_guard lock(mutex_);
        return count_;
    }
    /// Waits until there are `count`; false where that has not come about in time.
    bool wait(std::uint64_t count, std::chrono::seconds limit) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, limit, [&] { return count_ >= count; });
    }
    /// The same for as long as it takes; false after end().
    bool wait(std::uint64_t count) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return count_ >= count || ended_; });
        return !ended_;
    }
    void end() {
        const std::lock_guard lock(mutex_);
        ended_ = true;
        changed_.notify_all();
    }

  private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::uint64_t count_ = 0;
    bool ended_ = false;
};

}  // namespace dirtyring::soak
