// SPDX-License-Identifier: MIT
//
// What one more costs: the slope of times over counts, by least squares, what is long ago fading.
#pragma once

#include <algorithm>
#include <limits>

namespace dirtyring {

class CostMeter {
  public:
    /// `cost` is given as long as nothing else is known.
    explicit CostMeter(double cost) noexcept : cost_(cost) {}

    /// It took so long with so many.
    void add(double count, double time) noexcept {
        constexpr double keep = 0.99;
        weight_ = weight_ * keep + 1;
        const double step = 1 / weight_;
        const double off = count - mean_count_;
        mean_count_ += off * step;
        const double time_off = time - mean_time_;
        mean_time_ += time_off * step;
        spread_ = spread_ * keep + off * (count - mean_count_);
        common_ = common_ * keep + off * (time - mean_time_);
        // Counts that hardly differ tell nothing: the slope would be that of chance.
        const double deviation = 0.1 * mean_count_;
        if (weight_ > 8 && spread_ > weight_ * deviation * deviation && common_ > 0) {
            cost_ = common_ / spread_;
        }
        // None costs more than all that happened, at the best of times: a pause would be taken for
        // the cost of whatever came with it.
        constexpr double forget = 1.01;
        if (count > 0) {
            most_ = std::min(most_ * forget, time / count);
        }
    }
    [[nodiscard]] double cost() const noexcept { return std::min(cost_, most_); }

  private:
    double cost_;
    double most_ = std::numeric_limits<double>::infinity();
    double weight_ = 0;
    double mean_count_ = 0;
    double mean_time_ = 0;
    double spread_ = 0;  // of the counts, around their mean
    double common_ = 0;  // of counts and times
};

}  // namespace dirtyring
