// SPDX-License-Identifier: MIT
#include "live_view.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "dirtyring/measure.hpp"
#include "dirtyring/memory.hpp"
#include "format.hpp"

namespace dirtyring::cli {

namespace {

/// A row of the table: for all vCPUs together, or for one.
struct TableRow {
    std::string name;
    std::uint64_t pages = 0;
    std::uint64_t distinct = 0;
    VcpuFigures figures;
};

/// The columns, the most important first: what does not fit is left out from the end.
struct TableColumn {
    std::string_view title;
    std::string_view short_title;
    std::size_t width;
    std::size_t short_width;
};
constexpr std::array table_columns = {
    TableColumn{"vCPU", "vCPU", 6, 5},       TableColumn{"pages/s", "pages/s", 12, 10},
    TableColumn{"MiB/s", "MiB/s", 10, 8},    TableColumn{"distinct", "distinct", 12, 10},
    TableColumn{"peak fill", "fill", 12, 7}, TableColumn{"full exits", "full", 13, 7},
    TableColumn{"lost", "lost", 9, 6},
};
constexpr std::size_t columns_without_ring = 4;

}  // namespace

Result<void> LiveView::begin(const Header& header) {
    return screen_.begin([&] { header_ = header; });
}

Result<void> LiveView::show(const Interval& interval, const Totals& totals, const Live& live) {
    return screen_.update([&] {
        strip_.add(interval);
        last_ = interval;
        limit_ = live.limit;
        const VcpuStatistics& all = live.statistics.all;
        stopped_ns_ = all.stopped_nanoseconds - sums_.stopped_ns;
        sums_ = {.distinct = totals.distinct(),
                 .harvest_ns = totals.harvest_ns(),
                 .reset_ns = totals.reset_ns(),
                 .everything = totals.everything(),
                 .all = together(totals.vcpus()),
                 .bytes_per_second = all.bytes_per_second(),
                 .recent_bytes_per_second = all.recent_bytes_per_second(),
                 .stopped_ns = all.stopped_nanoseconds};
    });
}

void LiveView::put_configuration(Frame& frame) const {
    const std::string how =
        header_.track == Track::ring
            ? fmt::format("rings of {}", grouped(std::uint64_t{header_.ring_entries}))
        : header_.track == Track::manual ? "manual bitmap"
                                         : "bitmap";
    std::string text = fmt::format(" {}, {}, {}", counted(header_.vcpus, "vCPU"),
                                   bytes(header_.pages() * page_size), how);
    if (!frame.narrow()) {
        text += ", every " + duration(header_.interval_ns);
        text += limit_ != 0 ? fmt::format(", limit {}/s", bytes(limit_)) : std::string();
    }
    frame.put(text);
}

void LiveView::put_table(Frame& frame, int rows) const {
    const bool rings = header_.track == Track::ring;
    std::vector<TableRow> table;
    if (!rings || header_.vcpus > 1) {
        const VcpuFigures all = together(last_.vcpus);
        table.push_back({"all", rings ? all.entries : last_.pages(), last_.pages(), all});
    }
    for (std::size_t i = 0; rings && i < last_.vcpus.size(); ++i) {
        const VcpuFigures& vcpu = last_.vcpus[i];
        table.push_back({std::to_string(i), vcpu.entries, vcpu.distinct, vcpu});
    }
    std::size_t full_width = 0;
    for (const TableColumn& column : table_columns) {
        full_width += column.width;
    }
    const bool wide = full_width <= frame.width();
    const auto row = [&](const std::array<std::string, table_columns.size()>& cells) {
        std::string text;
        for (std::size_t i = 0; i < (rings ? cells.size() : columns_without_ring); ++i) {
            const std::size_t width = wide ? table_columns[i].width : table_columns[i].short_width;
            if (text.size() + width > frame.width()) {
                break;
            }
            text += fmt::format("{:>{}}", cells[i], width);
        }
        return text;
    };
    std::array<std::string, table_columns.size()> titles;
    std::ranges::transform(table_columns, titles.begin(), [&](const TableColumn& column) {
        return std::string(wide ? column.title : column.short_title);
    });
    frame.put(row(titles), terminal::bold);
    for (std::size_t i = 0; i < std::min(table.size(), static_cast<std::size_t>(rows)); ++i) {
        const TableRow& line = table[i];
        const std::size_t hidden = table.size() - i;
        if (static_cast<int>(i) == rows - 1 && hidden > 1 && rows > 1) {
            frame.put(fmt::format("  and {} more vCPUs", hidden));
            break;
        }
        const double rate = per_second(line.pages, last_.length_ns());
        frame.put(row({line.name, grouped(rate), fmt::format("{:.1f}", rate * page_size / mebibyte),
                       last_.everything ? "all" : grouped(line.distinct),
                       percent(static_cast<double>(line.figures.peak_fill), header_.ring_entries),
                       grouped(line.figures.full_exits), grouped(line.figures.lost)}));
    }
}

void LiveView::put_working_set(Frame& frame) const {
    const std::uint64_t now = last_.pages();
    frame.put(frame.narrow()
                  ? fmt::format(" {} now, {} since the start", bytes(now * page_size),
                                bytes(sums_.distinct * page_size))
                  : fmt::format(" working set {} ({}), since the start {} ({})", grouped(now),
                                bytes(now * page_size), grouped(sums_.distinct),
                                bytes(sums_.distinct * page_size)));
}

void LiveView::put_rate(Frame& frame) const {
    frame.put(fmt::format(" {:.1f} MiB/s on average, {:.1f} of late",
                          sums_.bytes_per_second / mebibyte,
                          sums_.recent_bytes_per_second / mebibyte));
}

void LiveView::put_cost(Frame& frame) const {
    const auto length = static_cast<double>(last_.length_ns());
    const auto spent = static_cast<double>(last_.harvest_ns + last_.reset_ns);
    const std::string cost = header_.track == Track::ring
                                 ? fmt::format(" harvest {}, reset {}", duration(last_.harvest_ns),
                                               duration(last_.reset_ns))
                                 : fmt::format(" collect {}", duration(last_.harvest_ns));
    std::string text = fmt::format("{}: {}", cost, percent(spent, length));
    if (!frame.narrow()) {
        text += " of the time";
        if (header_.track == Track::ring) {
            text += fmt::format("; vCPUs stopped {}",
                                percent(static_cast<double>(stopped_ns_), length * header_.vcpus));
        }
    }
    frame.put(text);
}

void LiveView::put_losses(Frame& frame) const {
    frame.put(fmt::format(" LOST since the start: {}, at least {} entries",
                          counted(sums_.all.overruns, "overrun"), grouped(sums_.all.lost)),
              terminal::bold);
}

void LiveView::put_work(Frame& frame) const {
    frame.put(fmt::format(" {}, {}; {} in all", counted(sums_.all.rounds, "round"),
                          counted(sums_.all.page_writes, "page write"),
                          counted(sums_.all.full_exits, "ring-full exit")));
}

// Who gets a row is decided in the order of what matters; then it is put together as it is read.
void LiveView::draw(Frame& frame) const {
    int left = frame.rows();
    const auto take = [&left](int rows) {
        const bool fits = left >= rows;
        left -= fits ? rows : 0;
        return fits;
    };
    const bool rings = header_.track == Track::ring;
    const int vcpus = static_cast<int>(header_.vcpus);
    const int table_rows = rings ? vcpus + (vcpus > 1 ? 1 : 0) : 1;
    take(5);  // title, head and a row of the table, working set, a row of the strip
    const bool losses = sums_.all.overruns + sums_.everything != 0 && take(1);
    const int more_rows = std::clamp(left - 2, 0, table_rows - 1);
    take(more_rows);
    const bool cost = take(1);
    const bool label = take(1);
    const bool configuration = take(1);
    const bool work = take(1);
    const bool rate = take(1);
    const bool blank_above_strip = take(1);
    const bool blank_above_sums = take(1);
    const bool key = frame.columns() >= 32 && take(1);
    const bool hint = take(1);
    const bool blank_above_table = take(1);
    const int strip_lines = 1 + std::min(left, 15);

    frame.put_title(" dirtyring: " + header_.guest, static_cast<double>(last_.end_ns) / 1e9);
    if (configuration) {
        put_configuration(frame);
    }
    if (blank_above_table) {
        frame.put_blank();
    }
    put_table(frame, 1 + more_rows);
    if (blank_above_sums) {
        frame.put_blank();
    }
    put_working_set(frame);
    if (rate) {
        put_rate(frame);
    }
    if (cost) {
        put_cost(frame);
    }
    if (work) {
        put_work(frame);
    }
    if (losses) {
        put_losses(frame);
    }
    if (blank_above_strip) {
        frame.put_blank();
    }
    if (label) {
        frame.put(fmt::format(" guest memory 0 .. {}", bytes(strip_.shown_bytes())));
    }
    for (int line = 0; line < strip_lines; ++line) {
        frame.put_drawn(strip_.draw(line, strip_lines, frame.columns(), colours_));
    }
    if (key) {
        frame.put_drawn(" " + HeatStrip::key(colours_));
    }
    if (hint) {
        frame.put(" Ctrl-C ends the run");
    }
}

}  // namespace dirtyring::cli
