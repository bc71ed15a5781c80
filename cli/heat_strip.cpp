// SPDX-License-Identifier: MIT
#include "heat_strip.hpp"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "colour.hpp"
#include "dirtyring/memory.hpp"

namespace dirtyring::cli {

namespace {

constexpr double memory_ns = 1e9;
// The share of dirty pages at which the scale begins; below, a stretch is cold.
constexpr double coldest = 1e-3;
constexpr Rgb never_written = {38, 38, 38};
// For terminals without colours: never written, cold, and from there on.
constexpr std::string_view letters = " .:-=+*#%@";

std::string cell(double share, terminal::Colours colours) {
    const double heat = share > coldest ? log_place(share, coldest, 1) : 0;
    if (colours != terminal::Colours::none) {
        return terminal::background(share == 0 ? never_written : heat_colour(heat), colours) + " ";
    }
    if (share == 0) {
        return " ";
    }
    const auto steps = static_cast<double>(letters.size() - 2);
    return std::string(1, letters[1 + static_cast<std::size_t>(std::lround(heat * steps))]);
}

std::string_view reset(terminal::Colours colours) {
    return colours == terminal::Colours::none ? "" : terminal::plain;
}

}  // namespace

void HeatStrip::add(const Interval& interval) {
    const double kept = std::exp(-static_cast<double>(interval.length_ns()) / memory_ns);
    AddressBins<4096> now;
    for (const Span& span : interval.spans) {
        now.add(span);
    }
    now.fade(1 - kept);
    bins_.fade(kept);
    bins_.merge(now);
}

std::uint64_t HeatStrip::shown_bytes() const noexcept {
    return std::max<std::uint64_t>(1, bins_.used()) * page_size << bins_.shift();
}

double HeatStrip::share(double begin, double end) const noexcept {
    const auto used = static_cast<double>(bins_.used());
    const auto first = static_cast<std::size_t>(begin * used);
    const auto last = std::max(static_cast<std::size_t>(std::ceil(end * used)), first + 1);
    double most = 0;
    for (std::size_t i = first; i < std::min(last, AddressBins<4096>::size); ++i) {
        most = std::max(most, bins_[i]);
    }
    return most / static_cast<double>(std::uint64_t{1} << bins_.shift());
}

std::string HeatStrip::draw(int line, int lines, int columns, terminal::Colours colours) const {
    std::string text;
    const double cells = static_cast<double>(lines) * columns;
    for (int column = 0; column < columns; ++column) {
        const double place = static_cast<double>(line) * columns + column;
        text += cell(share(place / cells, (place + 1) / cells), colours);
    }
    text += reset(colours);
    return text;
}

std::string HeatStrip::key(terminal::Colours colours) {
    std::string text = "0.1 % ";
    constexpr int steps = 10;
    for (int i = 0; i < steps; ++i) {
        text += cell(coldest * std::pow(1 / coldest, i / (steps - 1.0)), colours);
    }
    text += reset(colours);
    text += " 100 % of pages";
    return text;
}

}  // namespace dirtyring::cli
