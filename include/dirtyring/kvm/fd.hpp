// SPDX-License-Identifier: MIT
//
// A file descriptor that is either owned (closed at the end) or borrowed from somebody who keeps it
// open for as long as this object is used.
#pragma once

#include <utility>

namespace dirtyring::kvm {

class Fd {
  public:
    /// Takes the descriptor over: it is closed when this object goes. Any thread.
    [[nodiscard]] static Fd own(int fd) noexcept { return Fd(fd, true); }
    /// Uses a descriptor that somebody else closes, and not before this object is gone. Any thread.
    [[nodiscard]] static Fd borrow(int fd) noexcept { return Fd(fd, false); }

    Fd(Fd&& other) noexcept
        : number_(std::exchange(other.number_, -1)), owned_(std::exchange(other.owned_, false)) {}
    Fd& operator=(Fd&& other) noexcept {
        std::swap(number_, other.number_);
        std::swap(owned_, other.owned_);
        return *this;
    }
    Fd(const Fd&) = delete;
    Fd& operator=(const Fd&) = delete;
    ~Fd();

    /// The descriptor's number; -1 after a move.
    [[nodiscard]] int get() const noexcept { return number_; }
    /// The same descriptor, borrowed: for an object that must not outlive this one.
    [[nodiscard]] Fd ref() const noexcept { return borrow(number_); }
    /// Gives the number up without closing it; the object is left empty.
    [[nodiscard]] int release() noexcept {
        owned_ = false;
        return std::exchange(number_, -1);
    }

  private:
    Fd(int fd, bool owned) noexcept : number_(fd), owned_(owned) {}

    int number_;
    bool owned_;
};

}  // namespace dirtyring::kvm
