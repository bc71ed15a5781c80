// SPDX-License-Identifier: MIT
#include "heat_map.hpp"

#include <algorithm>

namespace dirtyring::cli {

void HeatMap::Column::merge(const Column& next) noexcept {
    end_ns = next.end_ns;
    intervals += next.intervals;
    pages += next.pages;
    everything |= next.everything;
    bins.merge(next.bins);
}

void halve(std::vector<HeatMap::Column>& columns) {
    const std::size_t half = (columns.size() + 1) / 2;
    for (std::size_t i = 0; i < half; ++i) {
        if (i != 0) {
            columns[i] = columns[2 * i];
        }
        if (2 * i + 1 < columns.size()) {
            columns[i].merge(columns[2 * i + 1]);
        }
    }
    columns.resize(half);
}

void HeatMap::add(const Interval& interval) {
    Column column{.begin_ns = interval.begin_ns,
                  .end_ns = interval.end_ns,
                  .intervals = 1,
                  .pages = interval.pages(),
                  .everything = interval.everything,
                  .bins = {}};
    for (const Span& span : interval.spans) {
        column.bins.add(span);
    }
    // The last interval of a run can be a moment; a rate over it alone would outshine all others.
    const bool moment = 2 * interval.length_ns() < first_ns_;
    if (!columns_.empty() && (columns_.back().intervals < intervals_each_ || moment)) {
        columns_.back().merge(column);
        return;
    }
    if (columns_.empty()) {
        first_ns_ = interval.length_ns();
    }
    if (columns_.size() == most_columns) {
        halve(columns_);
        intervals_each_ *= 2;
    }
    columns_.push_back(column);
}

std::vector<HeatMap::Column> HeatMap::columns() const {
    std::vector<Column> same = columns_;
    unsigned shift = 0;
    for (const Column& column : same) {
        shift = std::max(shift, column.bins.shift());
    }
    for (Column& column : same) {
        column.bins.coarsen(shift);
    }
    return same;
}

}  // namespace dirtyring::cli
