// SPDX-License-Identifier: MIT
//
// What a guest writes to its console, kept.
#pragma once

#include <mutex>
#include <string>
#include <string_view>

namespace dirtyring::machine {

/// Any thread.
class Console {
  public:
    void write(std::string_view text) {
        const std::lock_guard lock(mutex_);
        text_ += text.substr(0, max_bytes - text_.size());
    }
    [[nodiscard]] std::string text() const {
        const std::lock_guard lock(mutex_);
        return text_;
    }

  private:
    // A guest must not be able to fill the host's memory with its chatter.
    static constexpr std::size_t max_bytes = std::size_t{1} << 20;

    mutable std::mutex mutex_;
    std::string text_;
};

}  // namespace dirtyring::machine
