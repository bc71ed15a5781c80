// SPDX-License-Identifier: MIT
//
// A table that is redrawn in place, for terminals. It takes the alternate screen, so what stood in
// the terminal is there again afterwards, and it is cut to the terminal's size at every drawing.
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "heat_strip.hpp"
#include "terminal.hpp"
#include "view.hpp"

namespace dirtyring::cli {

class LiveView final : public View {
  public:
    LiveView() = default;
    LiveView(const LiveView&) = delete;
    LiveView& operator=(const LiveView&) = delete;
    /// Gives the terminal back if that has not been done.
    ~LiveView() override;

    Result<void> begin(const Header& header) override;
    Result<void> show(const Interval& interval, const Totals& totals) override;
    Result<void> end() override;
    Result<void> redraw() override;
    Result<void> step_aside(const std::function<void()>& meanwhile) override;

  private:
    /// What is drawn of Totals.
    struct Sums {
        std::uint64_t distinct;
        std::uint64_t harvest_ns;
        std::uint64_t reset_ns;
        std::uint64_t everything;
        VcpuFigures all;
    };
    class Frame;

    // With mutex_ held:
    Result<void> draw() const;
    void put_title(Frame& frame) const;
    void put_configuration(Frame& frame) const;
    void put_table(Frame& frame, int rows) const;
    void put_working_set(Frame& frame) const;
    void put_cost(Frame& frame) const;
    void put_losses(Frame& frame) const;
    void put_work(Frame& frame) const;

    std::mutex mutex_;
    const terminal::Colours colours_ = terminal::colours();
    bool has_terminal_ = false;
    Header header_;
    Interval last_;
    Sums sums_{};
    HeatStrip strip_;
};

}  // namespace dirtyring::cli
