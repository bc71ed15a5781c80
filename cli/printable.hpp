// SPDX-License-Identifier: MIT
//
// Text from guests, files and paths, fit for a terminal and for XML.
#pragma once

#include <string>
#include <string_view>

namespace dirtyring::cli {

/// The text with "?" for each byte that could steer a terminal or is not UTF-8. Line ends and tabs
/// stay. Any thread.
[[nodiscard]] std::string printable(std::string_view text);

}  // namespace dirtyring::cli
