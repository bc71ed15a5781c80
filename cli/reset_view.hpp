// SPDX-License-Identifier: MIT
//
// What is shown while a guest is reset: a table that is redrawn in place, or lines.
#pragma once

#include <memory>

#include "record.hpp"
#include "reset_loop.hpp"
#include "view.hpp"

namespace dirtyring::cli {

/// As Shown's calls.
class ResetView : public Shown {
  public:
    /// Takes the terminal.
    virtual Result<void> begin(const ResetConfig& config, const Header& header) = 0;
    /// An interval is over.
    virtual Result<void> show(const ResetState& state) = 0;
};

/// What standard output can show: the table on a terminal, else a line an interval.
[[nodiscard]] std::unique_ptr<ResetView> make_reset_view();

}  // namespace dirtyring::cli
