// SPDX-License-Identifier: MIT
//
// One line an interval, for files and pipes.
#pragma once

#include "view.hpp"

namespace dirtyring::cli {

class LineView final : public View {
  public:
    Result<void> begin(const Header& header) override;
    Result<void> show(const Interval& interval, const Totals& totals, const Live& live) override;
    Result<void> end() override { return {}; }

  private:
    bool rings_ = false;
    std::uint64_t stopped_ns_ = 0;  // of all vCPUs, until the interval before
};

}  // namespace dirtyring::cli
