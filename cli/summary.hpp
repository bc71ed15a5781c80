// SPDX-License-Identifier: MIT
//
// The end of a run, in words.
#pragma once

#include <string>
#include <string_view>

#include "record.hpp"
#include "totals.hpp"

namespace dirtyring::cli {

/// Adds "name  text", with the lines of the text below each other.
void put_line(std::string& out, std::string_view name, std::string_view text);
/// "rings of 65,536 entries", "bitmap".
[[nodiscard]] std::string tracking(const Header& header);

/// Several lines, the last of which ends with a newline.
[[nodiscard]] std::string summary(const Header& header, const Totals& totals,
                                  const Outcome& outcome);
/// What a live run adds to that: an empty line, and some more.
[[nodiscard]] std::string live_summary(const Header& header, const Live& live);

}  // namespace dirtyring::cli
