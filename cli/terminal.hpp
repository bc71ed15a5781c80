// SPDX-License-Identifier: MIT
//
// What the terminal at standard output can do, and the few control sequences that a redrawn screen
// needs (ECMA-48, and xterm's alternate screen).
#pragma once

#include <string>

#include "colour.hpp"

namespace dirtyring::cli::terminal {

struct Size {
    int columns;
    int rows;
};

enum class Colours { none, cube256, rgb };

/// Standard output is a terminal that can be redrawn in place.
[[nodiscard]] bool can_redraw();
/// As TIOCGWINSZ has it now; 80 x 24 where it does not say.
[[nodiscard]] Size size();
/// By NO_COLOR, COLORTERM and TERM.
[[nodiscard]] Colours colours();

inline constexpr const char* enter_screen = "\033[?1049h\033[?25l";
inline constexpr const char* leave_screen = "\033[0m\033[?25h\033[?1049l";
inline constexpr const char* bold = "\033[1m";
inline constexpr const char* reverse = "\033[7m";
inline constexpr const char* plain = "\033[0m";
/// Goes to the begin of a row, from 1 on, and clears it.
[[nodiscard]] std::string clear_row(int row);
/// Makes what follows stand on that colour; nothing for Colours::none.
[[nodiscard]] std::string background(Rgb colour, Colours colours);

}  // namespace dirtyring::cli::terminal
