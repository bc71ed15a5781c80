// SPDX-License-Identifier: MIT
#include "reset_picture.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "colour.hpp"
#include "format.hpp"
#include "svg_card.hpp"

namespace dirtyring::cli {

namespace {

using bench::Reset;

struct Look {
    Reset way;
    const char* colour;
    const char* dashes;  ///< of the stroke; empty: none
    const char* meaning;
};
constexpr std::array looks = {
    Look{Reset::alone, "#8b93a7", "2 4", "guest alone"},
    Look{Reset::limit, "#eceef4", "7 4", "limit"},
    Look{Reset::ours, "#f0a35e", "", "ours, ring"},
    Look{Reset::manual, "#e06c9f", "", "ours, manual"},
    Look{Reset::ring, "#4fc3f7", "", "plain ring"},
    Look{Reset::bitmap, "#81c784", "", "bitmap"},
    Look{Reset::wtf, "#b39ddb", "", "wtf's way"},
    Look{Reset::nyx, "#fff176", "", "QEMU-Nyx's way"},
};
static_assert(looks.size() == bench::all_resets.size());

constexpr std::array panels = {ResetPattern::same, ResetPattern::drift, ResetPattern::random};

const char* title_of(ResetPattern pattern) {
    return pattern == ResetPattern::same    ? "same pages each round"
           : pattern == ResetPattern::drift ? "same with 10 % drift"
                                            : "all random each round";
}

/// From the power of ten at or below the least value to that at or above the greatest.
struct Decades {
    double least = 1;
    double most = 10;

    void hold(double value) {
        least = std::min(least, std::pow(10, std::floor(std::log10(value))));
        most = std::max(most, std::pow(10, std::ceil(std::log10(value))));
    }
    [[nodiscard]] double place(double value) const { return log_place(value, least, most); }
    [[nodiscard]] std::vector<double> powers() const {
        std::vector<double> all{least};
        while (all.back() * 10 <= most * 1.01) {
            all.push_back(all.back() * 10);
        }
        return all;
    }
};

class ResetPicture : SvgCard {
  public:
    ResetPicture(std::span<const ResetRow> rows, std::uint64_t memory) : memory_(memory) {
        for (const ResetRow& row : rows) {
            if (row.memory != memory || std::ranges::find(panels, row.pattern) == panels.end()) {
                continue;
            }
            rows_.push_back(&row);
            pages_.hold(static_cast<double>(row.pages));
            for (const auto& [way, rate] : row.ways) {
                if (rows_.size() == 1 && way == row.ways.begin()->first) {
                    rates_ = {.least = rate.rounds_per_second, .most = rate.rounds_per_second};
                }
                rates_.hold(rate.rounds_per_second);
            }
        }
        for (const ResetPattern pattern : panels) {
            if (std::ranges::find(rows_, pattern, &ResetRow::pattern) != rows_.end()) {
                shown_.push_back(pattern);
            }
        }
    }

    std::string draw() {
        const int width =
            left +
            static_cast<int>(std::max<std::size_t>(1, shown_.size())) * (panel_width + panel_gap) +
            key_width;
        begin(width, height, "Resets of a guest: rounds a second against pages dirtied in each");
        text(left, 40, "class='title'",
             "A guest of " + bytes(memory_) + ", reset to a snapshot after each round");
        if (shown_.empty()) {
            text(left, top, "class='axis'", "nothing was measured");
        }
        for (std::size_t i = 0; i < shown_.size(); ++i) {
            draw_panel(shown_[i], left + static_cast<int>(i) * (panel_width + panel_gap), i == 0);
        }
        if (!shown_.empty()) {
            draw_key(width - key_width);
        }
        return finish();
    }

  private:
    // In pixels at natural size.
    static constexpr int height = 470;
    static constexpr int panel_width = 300;
    static constexpr int panel_gap = 28;
    static constexpr int left = 84;
    static constexpr int top = 92;
    static constexpr int bottom = 400;
    static constexpr int key_width = 150;

    [[nodiscard]] double y_of(double rate) const {
        return bottom - rates_.place(rate) * (bottom - top);
    }

    void draw_panel(ResetPattern pattern, int x, bool first) {
        put("<rect x='{}' y='{}' width='{}' height='{}' fill='{}'/>", x, top, panel_width,
            bottom - top, panel);
        text(x + panel_width / 2.0, top - 12, "class='mid axis'", title_of(pattern));
        for (const double rate : rates_.powers()) {
            put("<path class='grid' d='M{} {:.1f}h{}'/>", x, y_of(rate), panel_width);
            if (first) {
                text(x - 8, y_of(rate) + 4, "class='end'", grouped(rate));
            }
        }
        for (const double pages : pages_.powers()) {
            const double at = x + pages_.place(pages) * panel_width;
            put("<path class='grid' d='M{:.1f} {}v{}'/>", at, top, bottom - top);
            text(
                at, bottom + 18, "class='mid'",
                pages < 1000 ? fmt::format("{:.0f}", pages) : fmt::format("{:.0f}k", pages / 1000));
        }
        text(x + panel_width / 2.0, bottom + 42, "class='mid axis'", "pages dirtied in a round");
        if (first) {
            put("<text class='mid axis' transform='translate({} {}) rotate(-90)'>"
                "rounds a second</text>",
                x - 62, (top + bottom) / 2);
        }
        for (const Look& look : looks) {
            draw_curve(pattern, x, look);
        }
    }

    void draw_curve(ResetPattern pattern, int x, const Look& look) {
        std::string path;
        std::string dots;
        for (const ResetRow* const row : rows_) {
            const std::optional<double> rate = row->rate(look.way);
            if (row->pattern != pattern || !rate) {
                continue;
            }
            const double at = x + pages_.place(static_cast<double>(row->pages)) * panel_width;
            fmt::format_to(std::back_inserter(path), "{}{:.1f} {:.1f}", path.empty() ? 'M' : 'L',
                           at, y_of(*rate));
            fmt::format_to(std::back_inserter(dots), "M{:.1f} {:.1f}h0", at, y_of(*rate));
        }
        if (path.empty()) {
            return;
        }
        put("<path class='curve' stroke='{}' stroke-dasharray='{}' d='{}'/>", look.colour,
            *look.dashes == '\0' ? "none" : look.dashes, path);
        put("<path stroke='{}' stroke-width='5' stroke-linecap='round' d='{}'/>", look.colour,
            dots);
    }

    void draw_key(int x) {
        double y = top + 8;
        for (const Look& look : looks) {
            if (std::ranges::none_of(
                    rows_, [&](const ResetRow* row) { return row->ways.contains(look.way); })) {
                continue;
            }
            put("<path class='curve' stroke='{}' stroke-dasharray='{}' d='M{} {:.1f}h26'/>",
                look.colour, *look.dashes == '\0' ? "none" : look.dashes, x, y);
            text(x + 34, y + 4, "", look.meaning);
            y += 24;
        }
    }

    std::uint64_t memory_;
    std::vector<const ResetRow*> rows_;
    std::vector<ResetPattern> shown_;
    Decades pages_;
    Decades rates_;
};

}  // namespace

std::string reset_picture(std::span<const ResetRow> rows, std::uint64_t memory) {
    return ResetPicture(rows, memory).draw();
}

}  // namespace dirtyring::cli
