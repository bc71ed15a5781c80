// SPDX-License-Identifier: MIT
#include "screen.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "output_file.hpp"

namespace dirtyring::cli {

namespace {

Result<void> write_terminal(std::string_view text) {
    return write_all(STDOUT_FILENO, text, "standard output");
}

}  // namespace

void Frame::put(std::string_view text, const char* look) {
    std::string row(text.substr(0, width()));
    if (look == terminal::reverse) {
        row.resize(width(), ' ');
    }
    rows_.push_back(*look == '\0' ? row : look + row + terminal::plain);
}

void Frame::put_title(std::string text, double seconds) {
    // Cutting to a width needs characters of one byte and one column.
    std::ranges::replace_if(text, [](char c) { return c < ' ' || c == '\x7f'; }, '?');
    const std::string time = fmt::format("{:.1f} s ", seconds);
    if (text.size() + time.size() < width()) {
        text.resize(width() - time.size(), ' ');
        text += time;
    }
    put(text, terminal::reverse);
}

std::string Frame::drawn() const {
    std::string text;
    for (int row = 0; row < size_.rows; ++row) {
        text += terminal::clear_row(row + 1);
        if (static_cast<std::size_t>(row) < rows_.size()) {
            text += rows_[static_cast<std::size_t>(row)];
        }
    }
    return text;
}

Screen::~Screen() {
    // Nobody is left to tell if that fails.
    [[maybe_unused]] const Result<void> given_back = end();
}

Result<void> Screen::begin(const Change& change) {
    const std::lock_guard lock(mutex_);
    change();
    has_terminal_ = true;
    return write_terminal(terminal::enter_screen).and_then([this] { return draw(); });
}

Result<void> Screen::update(const Change& change) {
    const std::lock_guard lock(mutex_);
    change();
    return draw();
}

Result<void> Screen::end() {
    const std::lock_guard lock(mutex_);
    return std::exchange(has_terminal_, false) ? write_terminal(terminal::leave_screen)
                                               : Result<void>();
}

Result<void> Screen::step_aside(const std::function<void()>& meanwhile) {
    const std::lock_guard lock(mutex_);
    if (!has_terminal_) {
        meanwhile();
        return {};
    }
    Result<void> done = write_terminal(terminal::leave_screen);
    meanwhile();
    return done.and_then([] { return write_terminal(terminal::enter_screen); }).and_then([this] {
        return draw();
    });
}

Result<void> Screen::draw() const {
    if (!has_terminal_) {
        return {};
    }
    Frame frame(terminal::size());
    draw_(frame);
    return write_terminal(frame.drawn());
}

}  // namespace dirtyring::cli
