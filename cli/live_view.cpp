// SPDX-License-Identifier: MIT
#include "live_view.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "dirtyring/memory.hpp"
#include "format.hpp"
#include "output_file.hpp"

namespace dirtyring::cli {

namespace {

constexpr double mebibyte = 1 << 20;

Result<void> write_terminal(std::string_view text) {
    return write_all(STDOUT_FILENO, text, "standard output");
}

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

/// The rows of the screen, cut to its width.
class LiveView::Frame {
  public:
    explicit Frame(terminal::Size size) : size_(size) {}

    /// `text` is ASCII without control sequences.
    void put(std::string_view text, const char* look = "") {
        std::string row(text.substr(0, width()));
        if (look == terminal::reverse) {
            row.resize(width(), ' ');
        }
        rows_.push_back(*look == '\0' ? row : look + row + terminal::plain);
    }
    /// `text` fits.
    void put_drawn(std::string text) { rows_.push_back(std::move(text)); }
    void put_blank() { rows_.emplace_back(); }

    [[nodiscard]] std::size_t width() const { return static_cast<std::size_t>(size_.columns); }
    [[nodiscard]] int columns() const { return size_.columns; }
    /// Too narrow for the longer ways to say things.
    [[nodiscard]] bool narrow() const { return size_.columns < 60; }

    [[nodiscard]] std::string drawn() const {
        std::string text;
        for (int row = 0; row < size_.rows; ++row) {
            text += terminal::clear_row(row + 1);
            if (static_cast<std::size_t>(row) < rows_.size()) {
                text += rows_[static_cast<std::size_t>(row)];
            }
        }
        return text;
    }

  private:
    terminal::Size size_;
    std::vector<std::string> rows_;
};

LiveView::~LiveView() {
    // Nobody is left to tell if that fails.
    [[maybe_unused]] const Result<void> given_back = end();
}

Result<void> LiveView::begin(const Header& header) {
    const std::lock_guard lock(mutex_);
    header_ = header;
    has_terminal_ = true;
    return write_terminal(terminal::enter_screen).and_then([this] { return draw(); });
}

Result<void> LiveView::end() {
    const std::lock_guard lock(mutex_);
    return std::exchange(has_terminal_, false) ? write_terminal(terminal::leave_screen)
                                               : Result<void>();
}

Result<void> LiveView::redraw() {
    const std::lock_guard lock(mutex_);
    return draw();
}

Result<void> LiveView::step_aside(const std::function<void()>& meanwhile) {
    const std::lock_guard lock(mutex_);
    if (!has_terminal_) {
        meanwhile();
        return {};
    }
    Result<void> done = write_terminal(terminal::leave_screen);
    meanwhile();
    return done.and_then([] { return write_terminal(terminal::enter_screen); }).and_then([this] {
        return draw();
    });
}

Result<void> LiveView::show(const Interval& interval, const Totals& totals) {
    const std::lock_guard lock(mutex_);
    strip_.add(interval);
    last_ = interval;
    sums_ = {.distinct = totals.distinct(),
             .harvest_ns = totals.harvest_ns(),
             .reset_ns = totals.reset_ns(),
             .everything = totals.everything(),
             .all = together(totals.vcpus())};
    return draw();
}

void LiveView::put_title(Frame& frame) const {
    std::string title = " dirtyring: " + header_.guest;
    // Cutting to a width needs characters of one byte and one column.
    std::ranges::replace_if(title, [](char c) { return c < ' ' || c == '\x7f'; }, '?');
    const std::string time = fmt::format("{:.1f} s ", static_cast<double>(last_.end_ns) / 1e9);
    if (title.size() + time.size() < frame.width()) {
        title.resize(frame.width() - time.size(), ' ');
        title += time;
    }
    frame.put(title, terminal::reverse);
}

void LiveView::put_configuration(Frame& frame) const {
    const std::string how =
        header_.track == Track::ring
            ? fmt::format("rings of {}", grouped(std::uint64_t{header_.ring_entries}))
        : header_.track == Track::manual ? "manual bitmap"
                                         : "bitmap";
    const std::string every =
        frame.narrow() ? std::string() : ", every " + duration(header_.interval_ns);
    frame.put(fmt::format(" {}, {}, {}{}", counted(header_.vcpus, "vCPU"),
                          bytes(header_.pages() * page_size), how, every));
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

void LiveView::put_cost(Frame& frame) const {
    const auto length = static_cast<double>(last_.length_ns());
    const auto spent = static_cast<double>(last_.harvest_ns + last_.reset_ns);
    const std::string cost = header_.track == Track::ring
                                 ? fmt::format(" harvest {}, reset {}", duration(last_.harvest_ns),
                                               duration(last_.reset_ns))
                                 : fmt::format(" collect {}", duration(last_.harvest_ns));
    frame.put(fmt::format("{}: {}{}", cost, percent(spent, length),
                          frame.narrow() ? "" : " of the time"));
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
Result<void> LiveView::draw() const {
    if (!has_terminal_) {
        return {};
    }
    const terminal::Size size = terminal::size();
    int left = size.rows;
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
    const bool blank_above_strip = take(1);
    const bool blank_above_sums = take(1);
    const bool key = size.columns >= 32 && take(1);
    const bool hint = take(1);
    const bool blank_above_table = take(1);
    const int strip_lines = 1 + std::min(left, 15);

    Frame frame(size);
    put_title(frame);
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
    return write_terminal(frame.drawn());
}

}  // namespace dirtyring::cli
