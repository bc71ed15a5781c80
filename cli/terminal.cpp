// SPDX-License-Identifier: MIT
#include "terminal.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

namespace dirtyring::cli::terminal {

namespace {

std::string_view environment(const char* name) {
    const char* const value = std::getenv(name);
    return value == nullptr ? std::string_view() : value;
}

}  // namespace

bool can_redraw() {
    const std::string_view term = environment("TERM");
    return ::isatty(STDOUT_FILENO) == 1 && !term.empty() && term != "dumb";
}

Size size() {
    winsize window{};
    if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) != 0 || window.ws_col == 0 ||
        window.ws_row == 0) {
        return {80, 24};
    }
    return {window.ws_col, window.ws_row};
}

Colours colours() {
    if (!environment("NO_COLOR").empty()) {
        return Colours::none;
    }
    const std::string_view colour_term = environment("COLORTERM");
    if (colour_term == "truecolor" || colour_term == "24bit") {
        return Colours::rgb;
    }
    return environment("TERM").find("256color") != std::string_view::npos ? Colours::cube256
                                                                          : Colours::none;
}

std::string clear_row(int row) {
    return fmt::format("\033[{};1H\033[2K", row);
}

std::string background(Rgb colour, Colours colours) {
    switch (colours) {
        case Colours::none:
            break;
        case Colours::cube256:
            return fmt::format("\033[48;5;{}m", nearest_of_256(colour));
        case Colours::rgb:
            return fmt::format("\033[48;2;{};{};{}m", colour.red, colour.green, colour.blue);
    }
    return {};
}

}  // namespace dirtyring::cli::terminal
