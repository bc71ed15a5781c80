// SPDX-License-Identifier: MIT
#include "dirtyring/statistics.hpp"

#include <array>
#include <charconv>
#include <string_view>

namespace dirtyring {

namespace {

std::string text(std::uint64_t number) {
    return std::to_string(number);
}

std::string text(double number) {
    // Any finite double fits. Not printf: it writes a comma where the program's locale has one.
    std::array<char, 32> buffer;
    const std::to_chars_result end =
        std::to_chars(buffer.begin(), buffer.end(), number, std::chars_format::general, 9);
    return {buffer.data(), end.ptr};
}

double seconds(std::uint64_t nanoseconds) {
    return static_cast<double>(nanoseconds) / 1e9;
}

enum class Kind {
    number,
    nanoseconds,  // and seconds for Prometheus
    rate          // also the VM's: with a bitmap no vCPU has one
};

/// A figure of a vCPU, under both its names.
struct Figure {
    std::string_view name;        // in JSON
    std::string_view prometheus;  // counters end in _total
    std::string_view help;
    std::string (*of)(const VcpuStatistics&);  // in JSON's unit
    Kind kind = Kind::number;
};

constexpr Figure figures[] = {
    {"entries", "entries_total", "Entries read from the vCPU's ring",
     [](const VcpuStatistics& vcpu) { return text(vcpu.entries); }},
    {"duplicates", "duplicates_total", "Entries of pages that were dirty already",
     [](const VcpuStatistics& vcpu) { return text(vcpu.duplicates); }},
    {"full_exits", "ring_full_exits_total", "Exits because the ring was full",
     [](const VcpuStatistics& vcpu) { return text(vcpu.full_exits); }},
    {"overruns", "overruns_total", "Times that entries were or may have been lost",
     [](const VcpuStatistics& vcpu) { return text(vcpu.overruns); }},
    {"lost", "lost_entries_total", "Entries known to be lost",
     [](const VcpuStatistics& vcpu) { return text(vcpu.lost); }},
    {"largest_fill", "largest_fill_entries", "Most entries found in the ring at once",
     [](const VcpuStatistics& vcpu) { return text(std::uint64_t{vcpu.largest_fill}); }},
    {"stopped_nanoseconds", "stopped_seconds_total", "Time kept out of the guest by tracking",
     [](const VcpuStatistics& vcpu) { return text(vcpu.stopped_nanoseconds); }, Kind::nanoseconds},
    {"pages_per_second", "dirty_pages_per_second", "Pages dirtied a second since the start",
     [](const VcpuStatistics& vcpu) { return text(vcpu.pages_per_second); }, Kind::rate},
    {"bytes_per_second", "dirty_bytes_per_second", "Bytes dirtied a second since the start",
     [](const VcpuStatistics& vcpu) { return text(vcpu.bytes_per_second()); }, Kind::rate},
    {"recent_pages_per_second", "recent_dirty_pages_per_second", "Pages dirtied a second lately",
     [](const VcpuStatistics& vcpu) { return text(vcpu.recent_pages_per_second); }, Kind::rate},
    {"recent_bytes_per_second", "recent_dirty_bytes_per_second", "Bytes dirtied a second lately",
     [](const VcpuStatistics& vcpu) { return text(vcpu.recent_bytes_per_second()); }, Kind::rate},
};

/// A counter of the whole VM; its name in Prometheus follows.
struct Count {
    std::string_view name;
    std::string_view help;
    std::uint64_t Statistics::* member;
    bool goes_down = false;  // a gauge
};

constexpr Count counts[] = {
    {"collects", "Collects by all consumers", &Statistics::collects},
    {"committed", "Epochs committed", &Statistics::committed},
    {"aborted", "Epochs aborted", &Statistics::aborted},
    {"everything", "Collects in which every page counted as dirty", &Statistics::everything},
    {"short_resets", "Resets that a signal cut short", &Statistics::short_resets},
    {"suspects", "Pages that are dirty in each collect as they may not be armed",
     &Statistics::suspects, true},
    {"stale", "Entries that named no page", &Statistics::stale},
    {"marks_outside", "Pages marked where no slot is", &Statistics::marks_outside},
};

struct Times {
    std::string_view name;
    std::string_view help;
    Histogram Statistics::* member;
};

constexpr Times times[] = {
    {"collect", "What the source takes to collect", &Statistics::collect},
    {"harvest", "What reading all rings takes", &Statistics::harvest},
    {"reset", "What KVM_RESET_DIRTY_RINGS takes", &Statistics::reset},
};

// JSON -------------------------------------------------------------------------------------------

void put_name(std::string& out, std::string_view name) {
    out += out.back() == '{' ? "\"" : ", \"";
    out += name;
    out += "\": ";
}

void put_vcpu(std::string& out, const VcpuStatistics& vcpu) {
    out += '{';
    for (const Figure& figure : figures) {
        put_name(out, figure.name);
        out += figure.of(vcpu);
    }
    put_name(out, "removed");
    out += vcpu.removed ? "true}" : "false}";
}

void put_histogram(std::string& out, const Histogram& histogram) {
    out += "{\"count\": " + text(histogram.count()) + ", \"sum\": " + text(histogram.sum()) +
           ", \"buckets\": [";
    bool first = true;
    for (std::size_t i = 0; i < Histogram::size; ++i) {
        if (const std::uint64_t count = histogram.buckets()[i]; count != 0) {
            out += first ? "[" : ", [";
            out += text(std::uint64_t{1} << i) + ", " + text(count) + "]";
            first = false;
        }
    }
    out += "]}";
}

// Prometheus -------------------------------------------------------------------------------------

std::string head(std::string_view name, std::string_view help, std::string_view type) {
    std::string text = "# HELP ";
    text.append(name).append(" ").append(help).append(".\n# TYPE ");
    text.append(name).append(" ").append(type).append("\n");
    return text;
}

void put_vm_figure(std::string& out, const Figure& figure, const VcpuStatistics& all) {
    const std::string name = "dirtyring_vm_" + std::string(figure.prometheus);
    out += head(name, std::string(figure.help) + ", by all vCPUs", "gauge");
    out += name + ' ' + figure.of(all) + '\n';
}

void put_figure(std::string& out, const Figure& figure, const Statistics& statistics) {
    const std::string name = "dirtyring_" + std::string(figure.prometheus);
    out += head(name, figure.help, name.ends_with("_total") ? "counter" : "gauge");
    for (std::size_t i = 0; i < statistics.vcpus.size(); ++i) {
        const VcpuStatistics& vcpu = statistics.vcpus[i];
        out += name + "{vcpu=\"" + std::to_string(i) + "\"} ";
        out += figure.kind == Kind::nanoseconds ? text(seconds(vcpu.stopped_nanoseconds))
                                                : figure.of(vcpu);
        out += '\n';
    }
}

void put_times(std::string& out, const Times& what, const Histogram& histogram) {
    const std::string name = "dirtyring_" + std::string(what.name) + "_seconds";
    out += head(name, what.help, "histogram");
    std::uint64_t below = 0;
    for (std::size_t i = 0; i + 1 < Histogram::size; ++i) {
        below += histogram.buckets()[i];
        out += name + "_bucket{le=\"" + text(seconds(std::uint64_t{1} << i)) + "\"} " +
               text(below) + '\n';
    }
    out += name + "_bucket{le=\"+Inf\"} " + text(histogram.count()) + '\n';
    out += name + "_sum " + text(seconds(histogram.sum())) + '\n';
    out += name + "_count " + text(histogram.count()) + '\n';
}

}  // namespace

std::string to_json(const Statistics& statistics) {
    std::string out = "{\"nanoseconds\": " + text(statistics.nanoseconds);
    for (const Count& count : counts) {
        put_name(out, count.name);
        out += text(statistics.*count.member);
    }
    for (const Times& what : times) {
        put_name(out, what.name);
        put_histogram(out, statistics.*what.member);
    }
    put_name(out, "all");
    put_vcpu(out, statistics.all);
    put_name(out, "vcpus");
    out += '[';
    for (const VcpuStatistics& vcpu : statistics.vcpus) {
        out += &vcpu == statistics.vcpus.data() ? "" : ", ";
        put_vcpu(out, vcpu);
    }
    return out + "]}";
}

std::string to_prometheus(const Statistics& statistics) {
    std::string out;
    for (const Count& count : counts) {
        std::string name = "dirtyring_" + std::string(count.name);
        name += count.goes_down ? "" : "_total";
        out += head(name, count.help, count.goes_down ? "gauge" : "counter");
        out += name + ' ' + text(statistics.*count.member) + '\n';
    }
    for (const Times& what : times) {
        put_times(out, what, statistics.*what.member);
    }
    for (const Figure& figure : figures) {
        if (figure.kind == Kind::rate) {
            put_vm_figure(out, figure, statistics.all);
        }
    }
    for (const Figure& figure : figures) {
        put_figure(out, figure, statistics);
    }
    return out;
}

}  // namespace dirtyring
