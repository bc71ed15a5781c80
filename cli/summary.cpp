// SPDX-License-Identifier: MIT
#include "summary.hpp"

#include <fmt/format.h>

#include <string_view>

#include "dirtyring/measure.hpp"
#include "dirtyring/memory.hpp"
#include "format.hpp"
#include "printable.hpp"

namespace dirtyring::cli {

void put_line(std::string& out, std::string_view name, std::string_view text) {
    while (!text.empty()) {
        const std::size_t end = text.find('\n');
        out += fmt::format("{:<12}{}\n", name, text.substr(0, end));
        name = {};
        text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    }
}

std::string tracking(const Header& header) {
    return header.track == Track::ring
               ? fmt::format("rings of {} entries", grouped(std::uint64_t{header.ring_entries}))
           : header.track == Track::manual ? "manually protected bitmap"
                                           : "bitmap";
}

namespace {

std::string ending(const Header& header, const Outcome& outcome) {
    switch (outcome.ending) {
        case Ending::succeeded:
            return fmt::format("succeeded: {} ended with status 0",
                               header.vcpus == 1 ? "its vCPU" : "every vCPU");
        case Ending::stopped:
            return "stopped " + outcome.reason;
        case Ending::failed:
            break;
    }
    std::string text = "failed";
    for (const std::string& vcpu : outcome.vcpus) {
        text += "\n" + vcpu;
    }
    return text;
}

void put_losses(std::string& out, const Totals& totals, const VcpuFigures& all) {
    if (all.overruns == 0 && totals.everything() == 0) {
        put_line(out, "losses", "none");
        return;
    }
    put_line(out, "losses",
             fmt::format("{}, at least {} entries lost; {} in which every page counts as dirty",
                         counted(all.overruns, "overrun"), grouped(all.lost),
                         counted(totals.everything(), "interval")));
}

void put_table(std::string& out, const Totals& totals) {
    constexpr std::string_view row = "{:>5} {:>12} {:>10} {:>12} {:>9} {:>10} {:>4} {:>11}\n";
    out += fmt::format(fmt::runtime(row), "vCPU", "entries", "entries/s", "distinct", "peak fill",
                       "full exits", "lost", "page writes");
    const auto put_row = [&](const std::string& name, const VcpuFigures& vcpu) {
        out += fmt::format(fmt::runtime(row), name, grouped(vcpu.entries),
                           grouped(per_second(vcpu.entries, totals.duration_ns())),
                           grouped(vcpu.distinct), grouped(vcpu.peak_fill),
                           grouped(vcpu.full_exits), grouped(vcpu.lost), grouped(vcpu.page_writes));
    };
    for (std::size_t i = 0; i < totals.vcpus().size(); ++i) {
        put_row(std::to_string(i), totals.vcpus()[i]);
    }
    if (totals.vcpus().size() > 1) {
        put_row("all", together(totals.vcpus()));
    }
}

std::string rate(double pages_per_second) {
    return fmt::format("{} pages/s ({:.1f} MiB/s)", grouped(pages_per_second),
                       pages_per_second * page_size / mebibyte);
}

void put_times(std::string& out, std::string_view name, const Histogram& times) {
    put_line(
        out, name,
        fmt::format("{}, half of them below {}, 99 of 100 below {}", counted(times.count(), "time"),
                    duration(times.below(0.5)), duration(times.below(0.99))));
}

void put_live_table(std::string& out, const Statistics& statistics) {
    constexpr std::string_view row = "{:>5} {:>9} {:>9} {:>12} {:>10} {:>9}\n";
    out += fmt::format(fmt::runtime(row), "vCPU", "MiB/s", "of late", "duplicates", "stopped",
                       "of time");
    const auto put_row = [&](const std::string& name, const VcpuStatistics& vcpu, double time) {
        out += fmt::format(fmt::runtime(row), name,
                           fmt::format("{:.1f}", vcpu.bytes_per_second() / mebibyte),
                           fmt::format("{:.1f}", vcpu.recent_bytes_per_second() / mebibyte),
                           grouped(vcpu.duplicates), duration(vcpu.stopped_nanoseconds),
                           percent(static_cast<double>(vcpu.stopped_nanoseconds), time));
    };
    const auto time = static_cast<double>(statistics.nanoseconds);
    const std::size_t vcpus = statistics.vcpus.size();
    for (std::size_t i = 0; i < vcpus; ++i) {
        put_row(std::to_string(i), statistics.vcpus[i], time);
    }
    if (vcpus > 1) {
        put_row("all", statistics.all, time * static_cast<double>(vcpus));
    }
}

}  // namespace

std::string summary(const Header& header, const Totals& totals, const Outcome& outcome) {
    const VcpuFigures all = together(totals.vcpus());
    const auto run_ns = static_cast<double>(totals.duration_ns());
    std::string out;
    put_line(out, "guest",
             fmt::format("{}, {}, {}", header.guest, counted(header.vcpus, "vCPU"),
                         bytes(header.pages() * page_size)));
    put_line(out, "outcome", ending(header, outcome));
    put_line(out, "console", outcome.console);
    put_line(out, "work",
             fmt::format("{} in {}, {} by the guest's own count", counted(all.rounds, "round"),
                         duration(totals.duration_ns()), counted(all.page_writes, "page write")));
    put_line(out, "tracked by",
             fmt::format("{}, {} of {} each", tracking(header),
                         counted(totals.intervals(), "interval"), duration(header.interval_ns)));
    put_line(out, "working set",
             fmt::format("{} ({}) were dirty, on average {} an interval",
                         counted(totals.distinct(), "page"), bytes(totals.distinct() * page_size),
                         grouped(static_cast<double>(totals.page_changes()) /
                                 static_cast<double>(totals.intervals()))));
    put_line(out, header.track == Track::ring ? "harvest" : "collect",
             fmt::format("{} ({} of the time)", duration(totals.harvest_ns()),
                         percent(static_cast<double>(totals.harvest_ns()), run_ns)));
    if (header.track == Track::ring) {
        put_line(out, "reset",
                 fmt::format("{} ({} of the time)", duration(totals.reset_ns()),
                             percent(static_cast<double>(totals.reset_ns()), run_ns)));
        put_losses(out, totals, all);
        out += '\n';
        put_table(out, totals);
    }
    return printable(out);
}

std::string live_summary(const Header& header, const Live& live) {
    const Statistics& statistics = live.statistics;
    std::string out = "\n";
    if (live.limit != 0) {
        put_line(out, "limit", bytes(live.limit) + "/s for each vCPU");
    }
    put_line(out, "dirtied",
             fmt::format("{} on average, {} of late", rate(statistics.all.pages_per_second),
                         rate(statistics.all.recent_pages_per_second)));
    if (header.track != Track::ring) {
        put_times(out, "collects", statistics.collect);
        return out;
    }
    put_times(out, "harvests", statistics.harvest);
    put_times(out, "resets", statistics.reset);
    put_line(out, "suspects",
             statistics.suspects == 0 ? "none" : counted(statistics.suspects, "page"));
    out += '\n';
    put_live_table(out, statistics);
    return out;
}

}  // namespace dirtyring::cli
