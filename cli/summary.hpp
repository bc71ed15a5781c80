// SPDX-License-Identifier: MIT
//
// The end of a run, in words.
#pragma once

#include <string>

#include "record.hpp"
#include "totals.hpp"

namespace dirtyring::cli {

/// Several lines, the last of which ends with a newline.
[[nodiscard]] std::string summary(const Header& header, const Totals& totals,
                                  const Outcome& outcome);

}  // namespace dirtyring::cli
