// SPDX-License-Identifier: MIT
//
// A table that is redrawn in place, for terminals.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "heat_strip.hpp"
#include "screen.hpp"
#include "terminal.hpp"
#include "view.hpp"

namespace dirtyring::cli {

class LiveView final : public View {
  public:
    Result<void> begin(const Header& header) override;
    Result<void> show(const Interval& interval, const Totals& totals, const Live& live) override;
    Result<void> end() override { return screen_.end(); }
    Result<void> redraw() override {
        return screen_.update([] {});
    }
    Result<void> step_aside(const std::function<void()>& meanwhile) override {
        return screen_.step_aside(meanwhile);
    }

  private:
    /// What is drawn of Totals and Live.
    struct Sums {
        std::uint64_t distinct;
        std::uint64_t harvest_ns;
        std::uint64_t reset_ns;
        std::uint64_t everything;
        VcpuFigures all;
        double bytes_per_second;
        double recent_bytes_per_second;
        std::uint64_t stopped_ns;
    };

    void draw(Frame& frame) const;
    void put_configuration(Frame& frame) const;
    void put_table(Frame& frame, int rows) const;
    void put_working_set(Frame& frame) const;
    void put_rate(Frame& frame) const;
    void put_cost(Frame& frame) const;
    void put_losses(Frame& frame) const;
    void put_work(Frame& frame) const;

    const terminal::Colours colours_ = terminal::colours();
    Header header_;
    Interval last_;
    Sums sums_{};
    std::uint64_t limit_ = 0;       // bytes a second for each vCPU; 0: none
    std::uint64_t stopped_ns_ = 0;  // of all vCPUs in the interval
    HeatStrip strip_;
    Screen screen_{[this](Frame& frame) { draw(frame); }};  // last: it draws the others
};

}  // namespace dirtyring::cli
