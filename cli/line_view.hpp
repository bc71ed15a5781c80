// SPDX-License-Identifier: MIT
//
// One line an interval, for files and pipes.
#pragma once

#include "view.hpp"

namespace dirtyring::cli {

class LineView final : public View {
  public:
    Result<void> begin(const Header& header) override;
    Result<void> show(const Interval& interval, const Totals& totals) override;
    Result<void> end() override { return {}; }

  private:
    bool rings_ = false;
};

}  // namespace dirtyring::cli
