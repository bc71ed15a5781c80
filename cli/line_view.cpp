// SPDX-License-Identifier: MIT
#include "line_view.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include "dirtyring/measure.hpp"
#include "dirtyring/memory.hpp"
#include "format.hpp"
#include "output_file.hpp"

namespace dirtyring::cli {

Result<void> LineView::begin(const Header& header) {
    rings_ = header.track == Track::ring;
    std::string line = fmt::format("{:>9}{:>11}{:>9}{:>10}{:>12}{:>11}", "time_s", "pages/s",
                                   "MiB/s", "distinct", "since_start", "harvest_us");
    if (rings_) {
        line += fmt::format("{:>10}{:>10}{:>6}{:>6}{:>12}", "reset_us", "peak_fill", "full", "lost",
                            "stopped_ms");
    }
    return write_all(STDOUT_FILENO, line + "\n", "standard output");
}

Result<void> LineView::show(const Interval& interval, const Totals& totals, const Live& live) {
    const VcpuFigures all = together(interval.vcpus);
    const std::uint64_t pages = rings_ ? all.entries : interval.pages();
    const double rate = per_second(pages, interval.length_ns());
    std::string line =
        fmt::format("{:>9.3f}{:>11.0f}{:>9.1f}{:>10}{:>12}{:>11}",
                    static_cast<double>(interval.end_ns) / 1e9, rate, rate * page_size / mebibyte,
                    interval.everything ? "all" : std::to_string(interval.pages()),
                    totals.distinct(), interval.harvest_ns / 1000);
    if (rings_) {
        const std::uint64_t stopped = live.statistics.all.stopped_nanoseconds;
        line +=
            fmt::format("{:>10}{:>10}{:>6}{:>6}{:>12.1f}", interval.reset_ns / 1000, all.peak_fill,
                        all.full_exits, all.lost, static_cast<double>(stopped - stopped_ns_) / 1e6);
        stopped_ns_ = stopped;
    }
    return write_all(STDOUT_FILENO, line + "\n", "standard output");
}

}  // namespace dirtyring::cli
