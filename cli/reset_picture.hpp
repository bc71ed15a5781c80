// SPDX-License-Identifier: MIT
//
// The picture of dirtyring bench reset: rounds a second against pages dirtied in each, one panel a
// pattern, one curve a way.
#pragma once

#include <span>
#include <string>

#include "reset_sweep.hpp"

namespace dirtyring::cli {

/// A whole SVG document of the rows of one memory, those of guests left out.
[[nodiscard]] std::string reset_picture(std::span<const ResetRow> rows, std::uint64_t memory);

}  // namespace dirtyring::cli
