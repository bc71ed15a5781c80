// SPDX-License-Identifier: MIT
#include "svg.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>

#include "colour.hpp"
#include "dirtyring/memory.hpp"
#include "format.hpp"
#include "printable.hpp"
#include "svg_card.hpp"

namespace dirtyring::cli {

namespace {

// The page, in pixels at natural size.
constexpr int width = 1120;
constexpr int height = 760;
constexpr int left = 92;
constexpr int right = 980;
constexpr int rate_top = 104;
constexpr int rate_bottom = 168;
constexpr int map_top = 184;
constexpr int map_bottom = 696;
constexpr int key_left = 1008;
constexpr int key_right = 1024;
constexpr int key_top = 240;

constexpr std::size_t levels = 24;
// Keeps the file below 1 MB: a run of cells takes at most 15 bytes.
constexpr std::size_t most_runs = 60000;

using Out = std::back_insert_iterator<std::string>;

std::string escaped(std::string_view text) {
    std::string safe;
    for (const char c : printable(text)) {
        switch (c) {
            case '&':
                safe += "&amp;";
                break;
            case '<':
                safe += "&lt;";
                break;
            case '>':
                safe += "&gt;";
                break;
            default:
                safe += c;
        }
    }
    return safe;
}

/// The last part of a path, cut to what fits into the title.
std::string title_of(const Header& header) {
    const std::size_t slash = header.guest.find_last_of('/');
    const std::string name = header.guest.substr(slash + 1);  // npos + 1 is 0
    constexpr std::size_t most = 48;
    return escaped(name.size() > most ? name.substr(0, most - 3) + "..." : name);
}

/// The least of 1, 2, 5, 10, 20, ... times a power of ten with which at most `most` steps make up
/// `range`.
double decimal_step(double range, int most) {
    double step = std::pow(10, std::floor(std::log10(range / most)));
    for (const double factor : {1.0, 2.0, 5.0, 10.0}) {
        if (range / (step * factor) <= most) {
            return step * factor;
        }
    }
    return step * 20;
}

double binary_step(double range, int most) {
    return std::exp2(std::ceil(std::log2(range / most)));
}

/// The same for all cells of a picture: what its colours mean and where its axes end.
struct Scale {
    std::size_t rows = 1;  // bins shown
    double row_bytes = 0;  // of each
    double seconds = 0;    // of the whole
    double least = 0;      // pages a second in a cell that has any
    double most = 0;
    double most_rate = 0;  // bytes a second, all memory
};

Scale scale_of(const std::vector<HeatMap::Column>& columns) {
    Scale scale;
    scale.seconds = columns.empty() ? 0 : static_cast<double>(columns.back().end_ns) / 1e9;
    for (const HeatMap::Column& column : columns) {
        scale.rows = std::max(scale.rows, column.bins.used());
        scale.row_bytes = static_cast<double>(dirtyring::page_size << column.bins.shift());
        scale.most_rate = std::max(scale.most_rate, column.rate() * page_size);
        for (std::size_t row = 0; row < column.bins.used(); ++row) {
            if (column.bins[row] != 0) {
                const double value = column.rate(row);
                scale.least = scale.least == 0 ? value : std::min(scale.least, value);
                scale.most = std::max(scale.most, value);
            }
        }
    }
    return scale;
}

/// 0: nothing was written; 1 .. levels.
std::size_t level_of(const HeatMap::Column& column, std::size_t row, const Scale& scale) {
    if (column.bins[row] == 0) {
        return 0;
    }
    const double place = log_place(column.rate(row), scale.least, scale.most);
    return 1 + std::min(levels - 1, static_cast<std::size_t>(place * levels));
}

Rgb colour_of(std::size_t level) {
    return heat_colour(static_cast<double>(level - 1) / (levels - 1));
}

/// Where in the picture's width a time is, in tenths of a pixel.
long tenths(std::uint64_t ns, const Scale& scale) {
    return std::lround(static_cast<double>(ns) / 1e9 / scale.seconds * 10 * (right - left));
}

/// The cells, as one path for each level, of horizontal strokes one row thick.
struct Cells {
    std::array<std::string, levels + 1> paths;
    std::size_t runs = 0;
};

Cells draw_cells(const std::vector<HeatMap::Column>& columns, const Scale& scale) {
    Cells cells;
    for (std::size_t row = 0; row < scale.rows; ++row) {
        for (std::size_t i = 0; i < columns.size();) {
            const std::size_t level = level_of(columns[i], row, scale);
            std::size_t end = i + 1;
            while (end < columns.size() && level_of(columns[end], row, scale) == level) {
                ++end;
            }
            if (level != 0) {
                const long x = tenths(columns[i].begin_ns, scale);
                fmt::format_to(Out(cells.paths[level]), "M{} {}h{}", x, scale.rows - 1 - row,
                               tenths(columns[end - 1].end_ns, scale) - x);
                ++cells.runs;
            }
            i = end;
        }
    }
    return cells;
}

class Picture : SvgCard {
  public:
    Picture(const Header& header, const Totals& totals, const HeatMap& map)
        : header_(header), totals_(totals), columns_(map.columns()), scale_(scale_of(columns_)) {}

    std::string draw();

  private:
    [[nodiscard]] double x_of(double seconds) const {
        return left + seconds / scale_.seconds * (right - left);
    }
    [[nodiscard]] double y_of(double address) const {
        const double range = scale_.row_bytes * static_cast<double>(scale_.rows);
        return map_bottom - address / range * (map_bottom - map_top);
    }

    void headings();
    void time_axis();
    void address_axis();
    void heat();
    void losses();
    void rates();
    void key();

    const Header& header_;
    const Totals& totals_;
    std::vector<HeatMap::Column> columns_;
    Scale scale_;
};

void Picture::headings() {
    const std::string vcpus = counted(header_.vcpus, "vCPU");
    text(left, 44, "class='title'", title_of(header_) + ": where it writes");
    std::string how = "the dirty bitmap";
    if (header_.track == Track::ring) {
        how =
            fmt::format("dirty rings of {} entries", grouped(std::uint64_t{header_.ring_entries}));
    } else if (header_.track == Track::manual) {
        how = "the manually protected dirty bitmap";
    }
    text(left, 68, "class='about'",
         fmt::format("{}, {} of memory, tracked by {}, collected every {}", vcpus,
                     bytes(header_.pages() * page_size), how, duration(header_.interval_ns)));
    text(left, 88, "class='about'",
         fmt::format("{} written ({}) in {}", counted(totals_.distinct(), "distinct page"),
                     bytes(totals_.distinct() * page_size), duration(totals_.duration_ns())));
}

void Picture::time_axis() {
    const double step = decimal_step(scale_.seconds, 10);
    // Counted in whole steps: sums of a step would drift.
    for (int i = 0; i * step <= scale_.seconds; ++i) {
        const double x = x_of(i * step);
        put("<path class='tick' d='M{0:.1f} {1}v6'/>", x, map_bottom);
        text(x, map_bottom + 21, "class='mid'", fmt::format("{:.6g}", i * step));
    }
    text((left + right) / 2.0, map_bottom + 44, "class='mid axis'",
         "time since the guest's start (s)");
}

void Picture::address_axis() {
    const double range = scale_.row_bytes * static_cast<double>(scale_.rows) / mebibyte;
    const double step = binary_step(range, 10);
    for (int i = 0; i * step <= range; ++i) {
        const double y = y_of(i * step * mebibyte);
        put("<path class='tick' d='M{} {:.1f}h6'/>", left - 6, y);
        text(left - 11, y + 4, "class='end'", fmt::format("{:.6g}", i * step));
    }
    put("<text class='mid axis' transform='translate({} {}) rotate(-90)'>"
        "guest address (MiB)</text>",
        left - 62, (map_top + map_bottom) / 2);
}

void Picture::heat() {
    put("<rect x='{}' y='{}' width='{}' height='{}' fill='{}'/>", left, map_top, right - left,
        map_bottom - map_top, panel);
    if (scale_.most == 0) {
        text((left + right) / 2.0, (map_top + map_bottom) / 2.0, "class='mid axis'",
             "nothing was written");
        return;
    }
    Cells cells = draw_cells(columns_, scale_);
    while (cells.runs > most_runs) {
        halve(columns_);
        scale_ = scale_of(columns_);
        cells = draw_cells(columns_, scale_);
    }
    put("<g transform='translate({} {}) scale(.1 {:.5f}) translate(0 .5)' fill='none' "
        "stroke-width='1.04' "
        "shape-rendering='crispEdges'>",
        left, map_top,
        static_cast<double>(map_bottom - map_top) / static_cast<double>(scale_.rows));
    for (std::size_t level = 1; level <= levels; ++level) {
        if (!cells.paths[level].empty()) {
            put("<path stroke='{}' d='{}'/>", hex(colour_of(level)), cells.paths[level]);
        }
    }
    put("</g>");
}

void Picture::losses() {
    if (totals_.everything() == 0) {
        return;
    }
    put("<pattern id='lost' width='6' height='6' patternUnits='userSpaceOnUse'>"
        "<path d='M0 6L6 0' stroke='{}'/></pattern>",
        blue);
    for (const HeatMap::Column& column : columns_) {
        if (column.everything) {
            const double x = x_of(static_cast<double>(column.begin_ns) / 1e9);
            put("<rect x='{:.1f}' y='{}' width='{:.1f}' height='{}' fill='url(#lost)'/>", x,
                map_top, x_of(static_cast<double>(column.end_ns) / 1e9) - x, map_bottom - map_top);
        }
    }
    put("<rect x='{}' y='{}' width='{}' height='12' fill='url(#lost)' stroke='{}'/>", key_left,
        map_bottom - 48, key_right - key_left, blue);
    text(key_left, map_bottom - 20, "", "entries lost:");
    text(key_left, map_bottom - 4, "", "all may be dirty");
}

void Picture::rates() {
    put("<rect x='{}' y='{}' width='{}' height='{}' fill='{}'/>", left, rate_top, right - left,
        rate_bottom - rate_top, panel);
    const double most = std::max(scale_.most_rate / mebibyte, 1e-6);
    const double step = decimal_step(most, 3);
    const double top = std::ceil(most / step) * step;
    const auto y = [&](double value) {
        return rate_bottom - value / top * (rate_bottom - rate_top);
    };
    for (int i = 0; i * step <= top * 1.0001; ++i) {
        put("<path class='grid' d='M{} {:.1f}H{}'/>", left, y(i * step), right);
        text(left - 11, y(i * step) + 4, "class='end'", fmt::format("{:.6g}", i * step));
    }
    put("<text class='mid axis' transform='translate({} {}) rotate(-90)'>MiB/s</text>", left - 62,
        (rate_top + rate_bottom) / 2);
    std::string steps = fmt::format("M{} {}", left, rate_bottom);
    for (const HeatMap::Column& column : columns_) {
        const double value = column.rate() * page_size / mebibyte;
        fmt::format_to(Out(steps), "V{:.1f}H{:.1f}", y(value),
                       x_of(static_cast<double>(column.end_ns) / 1e9));
    }
    put("<path d='{0}V{1}Z' fill='{2}' fill-opacity='.25' stroke='{2}' stroke-width='1.2'/>", steps,
        rate_bottom, orange);
}

void Picture::key() {
    if (scale_.most == 0) {
        return;
    }
    text(key_left, map_top + 12, "class='axis'", "pages dirtied");
    text(key_left, map_top + 28, "class='axis'", "a second in");
    text(key_left, map_top + 44, "class='axis'",
         fmt::format("{}", bytes(static_cast<std::uint64_t>(scale_.row_bytes))));
    constexpr int key_bottom = 520;
    const double part = static_cast<double>(key_bottom - key_top) / levels;
    for (std::size_t level = 1; level <= levels; ++level) {
        // A little overlap, or the seams show.
        put("<rect x='{}' y='{:.2f}' width='{}' height='{:.2f}' fill='{}'/>", key_left,
            key_bottom - static_cast<double>(level) * part, key_right - key_left, part + 0.4,
            hex(colour_of(level)));
    }
    double last_y = key_bottom + 100;
    const auto mark = [&](double value) {
        const double place = log_place(value, scale_.least, scale_.most);
        const double y = key_bottom - place * (key_bottom - key_top);
        if (last_y - y >= 18) {
            put("<path class='tick' d='M{} {:.1f}h5'/>", key_right, y);
            text(key_right + 9, y + 4, "",
                 value < 10 ? fmt::format("{:.2g}", value) : grouped(value));
            last_y = y;
        }
    };
    const bool wide = scale_.most / scale_.least >= 100;
    mark(scale_.least);
    double decade = std::pow(10, std::floor(std::log10(scale_.least)));
    while (decade <= scale_.most) {
        for (const double factor : {1.0, 2.0, 5.0}) {
            const double value = decade * factor;
            const bool shown = value > scale_.least && value * 1.3 < scale_.most;
            if (shown && (!wide || factor == 1.0)) {
                mark(value);
            }
        }
        decade *= 10;
    }
    mark(scale_.most);
}

std::string Picture::draw() {
    begin(width, height,
          title_of(header_) + ": guest address against time, coloured by pages dirtied a second");
    headings();
    heat();
    losses();
    rates();
    time_axis();
    address_axis();
    key();
    return finish();
}

}  // namespace

std::string svg(const Header& header, const Totals& totals, const HeatMap& map) {
    return Picture(header, totals, map).draw();
}

}  // namespace dirtyring::cli
