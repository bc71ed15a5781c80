// SPDX-License-Identifier: MIT
//
// The picture of a run: address against time, coloured by how often pages there were dirtied, below
// a curve of all memory's rate.
#pragma once

#include <string>

#include "heat_map.hpp"
#include "record.hpp"
#include "totals.hpp"

namespace dirtyring::cli {

/// A whole SVG document, below 1 MB.
[[nodiscard]] std::string svg(const Header& header, const Totals& totals, const HeatMap& map);

}  // namespace dirtyring::cli
