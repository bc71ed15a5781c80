// SPDX-License-Identifier: MIT
//
// Collecting what a guest has written, on the machine's KVM: this library beside straightforward
// code in the style of two snapshot fuzzers (rivals/peers.hpp). In each round every way takes its
// turn with the same guest's writes, so that their ratios hold however busy the machine is.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/host_line.hpp"
#include "collect_case.hpp"
#include "machine/machine.hpp"

namespace dirtyring::bench {
namespace {

constexpr const char* help = R"(usage: collect_bench [--markdown] [--quick]

Measures what it takes to collect 10 to 10,000 pages that a guest has written, all over 64 MiB, 3 GiB
and 16 GiB of memory: by this library's Consumer (ours), and by straightforward code in the style of
QEMU-Nyx (ring) and of wtf (manually protected bitmap). Needs /dev/kvm; takes about two minutes.

A time is that of finding the pages, writing their addresses down, arming each again, and forgetting
them, while the vCPU stands still: medians, in microseconds. Each round's pages are checked. "x ours"
is how many times as long the other one took: above 1 ours is faster. "by number": wtf's way with a
better key in its hash set (see rivals/peers.hpp).

  --markdown   the table as Markdown
  --quick      64 MiB and a few rounds only, to see that it works; the figures mean little
  --help       this text

Ends with status 0; 1 when a measurement could not be made or a way did not find the pages; 2 after a
wrong argument.
)";

constexpr std::uint64_t mib = std::uint64_t{1} << 20;

struct Extent {
    std::vector<std::uint64_t> memories;  // bytes
    std::vector<std::uint64_t> page_counts;
    // The machines are made anew in each pass, as their memory's place makes a difference, and in
    // another order.
    std::uint32_t passes;
    std::uint32_t rounds;  // of each pass
};

Extent whole() {
    return {.memories = {64 * mib, 3072 * mib, 16384 * mib},
            .page_counts = {10, 100, 1000, 10'000},
            .passes = 3,
            .rounds = 20};
}

Extent quick() {
    return {.memories = {64 * mib}, .page_counts = {10, 1000}, .passes = 2, .rounds = 2};
}

using Key = std::pair<std::uint64_t, std::uint64_t>;  // memory, pages

std::optional<double> median(std::vector<double> values) {
    if (values.empty()) {
        return std::nullopt;
    }
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::ranges::nth_element(values, middle);
    return *middle;
}

// Columns of the table. A ratio is that of the medians.
struct Column {
    std::string_view group;
    std::string_view name;
    Rival rival;
    std::optional<Rival> over;  // a ratio: to which
};
constexpr std::array columns = {
    Column{"ring", "ours", Rival::ring_ours, {}},
    Column{"", "Nyx style", Rival::ring_nyx, {}},
    Column{"", "x ours", Rival::ring_nyx, Rival::ring_ours},
    Column{"manual", "ours", Rival::manual_ours, {}},
    Column{"", "wtf style", Rival::manual_wtf, {}},
    Column{"", "x ours", Rival::manual_wtf, Rival::manual_ours},
    Column{"", "by number", Rival::manual_wtf_pages, {}},
    Column{"", "x ours", Rival::manual_wtf_pages, Rival::manual_ours},
    Column{"bitmap", "ours", Rival::bitmap_ours, {}},
};

std::string cell(const Column& column, const Samples& samples) {
    const auto of = [&](Rival rival) { return median(samples[static_cast<std::size_t>(rival)]); };
    const std::optional<double> time = of(column.rival);
    if (!column.over) {
        return time ? fmt::format("{:.1f}", *time / 1000) : "no";
    }
    const std::optional<double> ours = of(*column.over);
    return time && ours ? fmt::format("{:.2f}", *time / *ours) : "no";
}

std::string bytes(std::uint64_t value) {
    return value < 1024 * mib ? fmt::format("{} MiB", value / mib)
                              : fmt::format("{} GiB", value / (1024 * mib));
}

using Measured = std::map<Key, Samples>;

std::string text_table(const Measured& measured) {
    std::string groups = fmt::format("{:<15}", "");
    std::string names = fmt::format("{:<8}{:>7}", "memory", "pages");
    for (const Column& column : columns) {
        groups += fmt::format("{:>11}", column.group);
        names += fmt::format("{:>11}", column.name);
    }
    std::string out = groups + "\n" + names + "\n";
    for (const auto& [key, samples] : measured) {
        out += fmt::format("{:<8}{:>7}", bytes(key.first), key.second);
        for (const Column& column : columns) {
            out += fmt::format("{:>11}", cell(column, samples));
        }
        out += '\n';
    }
    return out;
}

std::string markdown_table(const Measured& measured) {
    std::string heads = "| memory | pages |";
    std::string rule = "|---|---|";
    for (const Column& column : columns) {
        // A Markdown table has one line of heads.
        heads += column.group.empty() ? fmt::format(" {} |", column.name)
                                      : fmt::format(" {}: {} |", column.group, column.name);
        rule += "---|";
    }
    std::string out = heads + "\n" + rule + "\n";
    for (const auto& [key, samples] : measured) {
        out += fmt::format("| {} | {} |", bytes(key.first), key.second);
        for (const Column& column : columns) {
            out += fmt::format(" {} |", cell(column, samples));
        }
        out += '\n';
    }
    return out;
}

Result<Measured> measure(const cli::BenchHost& host, const Extent& extent) {
    const Result<std::vector<std::byte>> guest = machine::read_file(DIRTYRING_SCATTER_GUEST);
    if (!guest) {
        return fail(guest.error());
    }
    std::vector<Rival> order;
    for (std::size_t i = 0; i < rivals; ++i) {
        const auto rival = static_cast<Rival>(i);
        if (host.kvm.tracking[static_cast<std::size_t>(tracking_of(rival))].usable) {
            order.push_back(rival);
        }
    }
    Measured measured;
    for (std::uint32_t pass = 0; pass < extent.passes; ++pass) {
        for (const std::uint64_t memory : extent.memories) {
            for (const std::uint64_t pages : extent.page_counts) {
                const Case what{.memory = memory,
                                .pages = pages,
                                .ring_entries = std::min(65536U, host.kvm.vm.largest_ring()),
                                .rounds = extent.rounds};
                Result<void> ran = run_case(what, order, *guest, measured[{memory, pages}]);
                if (!ran) {
                    return fail(std::move(ran.error()));
                }
            }
        }
        std::ranges::rotate(
            order, order.begin() + static_cast<std::ptrdiff_t>(order.size() / extent.passes));
    }
    return measured;
}

Result<void> run(const Extent& extent, bool markdown) {
    const Result<cli::BenchHost> host = cli::look_at_host();
    if (!host) {
        return fail(host.error());
    }
    fmt::print("{}\nMedians of {} rounds, in microseconds.\n\n", cli::host_line(*host),
               extent.passes * extent.rounds);
    std::fflush(stdout);
    return measure(*host, extent).map([&](const Measured& measured) {
        fmt::print("{}", markdown ? markdown_table(measured) : text_table(measured));
    });
}

}  // namespace
}  // namespace dirtyring::bench

int main(int argc, char** argv) {
    using namespace dirtyring;
    bool markdown = false;
    bench::Extent extent = bench::whole();
    for (int i = 1; i < argc; ++i) {
        const std::string_view argument = argv[i];
        if (argument == "--help" || argument == "-h") {
            fmt::print("{}", bench::help);
            return 0;
        }
        if (argument == "--markdown") {
            markdown = true;
        } else if (argument == "--quick") {
            extent = bench::quick();
        } else {
            fmt::print(stderr, "collect_bench: there is no argument '{}'; see --help\n", argument);
            return 2;
        }
    }
    if (Result<void> done = bench::run(extent, markdown); !done) {
        fmt::print(stderr, "collect_bench: {}\n", done.error().message());
        return 1;
    }
    return 0;
}
