// SPDX-License-Identifier: MIT
//
// A terminal's alternate screen that is redrawn in place: what stood in the terminal is there again
// afterwards, and each drawing is cut to the terminal's size at that moment.
#pragma once

#include <cstddef>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "dirtyring/error.hpp"
#include "terminal.hpp"

namespace dirtyring::cli {

/// The rows of the screen, cut to its width.
class Frame {
  public:
    explicit Frame(terminal::Size size) : size_(size) {}

    /// `text` is ASCII without control sequences.
    void put(std::string_view text, const char* look = "");
    /// The first row: `text`, which may hold anything, and at the right `time` if there is room.
    void put_title(std::string text, double seconds);
    /// `text` fits.
    void put_drawn(std::string text) { rows_.push_back(std::move(text)); }
    void put_blank() { rows_.emplace_back(); }

    [[nodiscard]] std::size_t width() const { return static_cast<std::size_t>(size_.columns); }
    [[nodiscard]] int columns() const { return size_.columns; }
    [[nodiscard]] int rows() const { return size_.rows; }
    /// Too narrow for the longer ways to say things.
    [[nodiscard]] bool narrow() const { return size_.columns < 60; }

    [[nodiscard]] std::string drawn() const;

  private:
    terminal::Size size_;
    std::vector<std::string> rows_;
};

/// All calls from any thread. Errors: those of writing to standard output.
class Screen {
  public:
    using Draw = std::function<void(Frame&)>;
    using Change = std::function<void()>;

    /// `draw` is called by one thread at a time, and never while a `change` is.
    explicit Screen(Draw draw) : draw_(std::move(draw)) {}
    Screen(const Screen&) = delete;
    Screen& operator=(const Screen&) = delete;
    /// Gives the terminal back if that has not been done.
    ~Screen();

    /// Takes the terminal. `change` of this and of the next: makes what is to be drawn.
    Result<void> begin(const Change& change);
    /// Draws, where it has the terminal.
    Result<void> update(const Change& change);
    /// Gives the terminal back as it was.
    Result<void> end();
    /// Calls `meanwhile` with the terminal given back, and takes it again.
    Result<void> step_aside(const std::function<void()>& meanwhile);

  private:
    Result<void> draw() const;  // with mutex_ held

    Draw draw_;
    std::mutex mutex_;
    bool has_terminal_ = false;
};

}  // namespace dirtyring::cli
