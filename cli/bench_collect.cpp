// SPDX-License-Identifier: MIT
//
// dirtyring bench collect: what one collect costs, by size of memory.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <tuple>
#include <utility>

#include "bench.hpp"
#include "collect_cost.hpp"
#include "format.hpp"
#include "output_file.hpp"

namespace dirtyring::cli {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<std::uint64_t, 3> page_counts = {16, 256, 4096};

struct CollectPlan {
    std::vector<std::uint64_t> memories;  ///< bytes, rising
    std::uint32_t rounds;                 ///< timed in a run
    int passes;                           ///< every case is run so often, all others in between
};

CollectPlan plan_of(const BenchOptions& options) {
    if (options.quick) {
        return {.memories = {least_memory, 1024 * mib}, .rounds = 8, .passes = 1};
    }
    return {.memories = {least_memory, 256 * mib, 1024 * mib, 4096 * mib, 16384 * mib},
            .rounds = 20,
            .passes = 3};
}

/// Memory, pages, way.
using Key = std::tuple<std::uint64_t, std::uint64_t, Track>;

struct Measured {
    std::map<Key, CollectSamples> samples;        ///< none is empty
    std::map<std::uint64_t, std::string> failed;  ///< memory of which no machine could be made: why
};

std::optional<double> time_of(const Measured& measured, const Key& key) {
    const auto found = measured.samples.find(key);
    return found == measured.samples.end() ? std::nullopt
                                           : std::optional(median(found->second.nanoseconds));
}

void append(std::vector<double>& to, const std::vector<double>& values) {
    to.insert(to.end(), values.begin(), values.end());
}

/// Runs one case and adds its samples, or the reason why there can be no such machine.
Result<void> measure(const CollectCase& what, const GuestFile& writer, Interruption& interruption,
                     Measured& measured) {
    const Result<std::unique_ptr<CollectCost>> cost = CollectCost::create(what, writer);
    if (!cost) {
        measured.failed.emplace(what.memory, cost.error().message());
        return {};
    }
    const Result<CollectSamples> samples = (*cost)->run(interruption);
    if (!samples) {
        return fail(samples.error());
    }
    if (!samples->nanoseconds.empty()) {
        CollectSamples& all = measured.samples[{what.memory, what.pages, what.track}];
        append(all.nanoseconds, samples->nanoseconds);
        append(all.pages, samples->pages);
    }
    return {};
}

Result<Measured> measure_all(const CollectPlan& plan, const BenchHost& host,
                             Interruption& interruption) {
    const Result<GuestFile> writer = load_guest("writer");
    if (!writer) {
        return fail(writer.error());
    }
    std::vector<CollectCase> cases;
    for (int pass = 0; pass < plan.passes; ++pass) {
        for (const std::uint64_t memory : plan.memories) {
            for (const std::uint64_t pages : page_counts) {
                for (const Track track : tracks) {
                    cases.push_back({memory, pages, track, bench_ring_entries(host), plan.rounds});
                }
            }
        }
    }
    Measured measured;
    for (const CollectCase& what : cases) {
        if (interruption.signal() != 0) {
            break;
        }
        if (!support_of(host, what.track).usable || measured.failed.contains(what.memory)) {
            continue;
        }
        if (Result<void> done = measure(what, *writer, interruption, measured); !done) {
            return fail(std::move(done.error()));
        }
    }
    return measured;
}

// What it says -----------------------------------------------------------------------------------

constexpr std::string_view cell_format = "{:>8}";

std::string table(const CollectPlan& plan, const BenchHost& host, const Measured& measured) {
    std::string head;
    std::string ways = fmt::format("{:<8}", "memory");
    for (const std::uint64_t pages : page_counts) {
        head += fmt::format("{:>{}}", counted(pages, "page"), 8 * tracks.size());
        for (const Track track : tracks) {
            ways += fmt::format(cell_format, name(track));
        }
    }
    std::string out = fmt::format("        {}\n{}\n", head, ways);
    for (const std::uint64_t memory : plan.memories) {
        out += fmt::format("{:<8}", bytes(memory));
        if (const auto why = measured.failed.find(memory); why != measured.failed.end()) {
            out += " failed: " + why->second + "\n";
            continue;
        }
        for (const std::uint64_t pages : page_counts) {
            for (const Track track : tracks) {
                const std::optional<double> time = time_of(measured, {memory, pages, track});
                out += fmt::format(cell_format, time ? fmt::format("{:.1f}", *time / 1000)
                                                : support_of(host, track).usable ? "-"
                                                                                 : "no");
            }
        }
        out += '\n';
    }
    return out;
}

struct CollectGrowth {
    Track track;
    std::uint64_t pages;
    double ratio;  ///< time in the largest memory to that in the smallest
};

std::vector<CollectGrowth> growths(const CollectPlan& plan, const Measured& measured) {
    std::vector<CollectGrowth> all;
    for (const Track track : tracks) {
        for (const std::uint64_t pages : page_counts) {
            const std::optional<double> least =
                time_of(measured, {plan.memories.front(), pages, track});
            const std::optional<double> most =
                time_of(measured, {plan.memories.back(), pages, track});
            if (least && most) {
                all.push_back({track, pages, *most / *least});
            }
        }
    }
    return all;
}

std::string growth_lines(const CollectPlan& plan, const std::vector<CollectGrowth>& growths) {
    std::string out;
    for (const CollectGrowth& growth : growths) {
        out += fmt::format("{}, {}: {:.2f} times as long in {} as in {}\n", name(growth.track),
                           counted(growth.pages, "page"), growth.ratio, bytes(plan.memories.back()),
                           bytes(plan.memories.front()));
    }
    return out.empty() ? out : "\n" + out;
}

Json json_of(const CollectPlan& plan, const Measured& measured) {
    Json measurements = Json::array();
    for (const auto& [key, samples] : measured.samples) {
        const auto& [memory, pages, track] = key;
        measurements.push_back({{"memory_bytes", memory},
                                {"pages", pages},
                                {"way", name(track)},
                                {"collects", samples.nanoseconds.size()},
                                {"collected_pages", median(samples.pages)},
                                {"collect_ns", median(samples.nanoseconds)}});
    }
    Json failed = Json::array();
    for (const auto& [memory, why] : measured.failed) {
        failed.push_back({{"memory_bytes", memory}, {"why", why}});
    }
    Json ratios = Json::array();
    for (const CollectGrowth& growth : growths(plan, measured)) {
        ratios.push_back({{"way", name(growth.track)},
                          {"pages", growth.pages},
                          {"least_memory_bytes", plan.memories.front()},
                          {"most_memory_bytes", plan.memories.back()},
                          {"ratio", growth.ratio}});
    }
    return Json{{"measurements", std::move(measurements)},
                {"failed", std::move(failed)},
                {"ratios", std::move(ratios)}};
}

Result<Json> measure_and_tell(const BenchOptions& options, const BenchHost& host,
                              Interruption& interruption) {
    const CollectPlan plan = plan_of(options);
    const std::string heading = fmt::format(
        "One collect while the vCPU stands still after each round of its writes, in microseconds:\n"
        "medians of {}. The table comes at the end.\n\n",
        counted(plan.rounds * static_cast<std::uint64_t>(plan.passes), "collect"));
    if (Result<void> told = write_all(STDOUT_FILENO, heading, "standard output"); !told) {
        return fail(std::move(told.error()));
    }
    const Result<Measured> measured = measure_all(plan, host, interruption);
    if (!measured) {
        return fail(measured.error());
    }
    if (measured->failed.size() == plan.memories.size()) {
        return fail({0,
                     "measure collects",
                     "no machine could be made: " + measured->failed.begin()->second,
                     {}});
    }
    const std::string text =
        table(plan, host, *measured) + growth_lines(plan, growths(plan, *measured));
    return write_all(STDOUT_FILENO, text, "standard output").map([&] {
        Json json = json_of(plan, *measured);
        json["ring_entries"] = bench_ring_entries(host);
        return json;
    });
}

Manual collect_manual() {
    std::vector<Entry> members = bench_json_members();
    members.insert(
        members.end(),
        {{"measurements",
          "For each size of memory, number of pages and way: memory_bytes, pages, way, collects "
          "(how many were timed), collected_pages and collect_ns, both medians."},
         {"failed", "memory_bytes and why, where no machine of that size could be made."},
         {"ratios",
          "For each way and number of pages: ratio, of the time in most_memory_bytes to that in "
          "least_memory_bytes."},
         {"ring_entries", "Of the vCPU's ring."}});
    return {
        .page = "dirtyring-bench-collect",
        .summary = "measure what one collect costs, by size of memory",
        .description =
            {"Measures how long it takes to learn which pages were written, and to have their next "
             "write logged again: by ring, by bitmap and by manually protected bitmap, after 16, "
             "256 and 4,096 dirty pages, in guests of 64 MiB to 16 GiB.",
             "The guest writer on one vCPU dirties so many pages in each round, spread over the "
             "first 64 MiB whatever the size of memory, and the collect is timed while the vCPU "
             "stands still after the round. Up to half of the pages are of the writer's own "
             "ledger, "
             "which lies behind. Each collect must have given every page that was written, and "
             "few others; otherwise the measurement fails.",
             "Every case is run several times with all others in between, and its median is "
             "printed. Memory costs the host only what is touched, under 1 GiB at a time; a size "
             "that the host refuses is left out, with the reason."},
        .sections = {{.title = "JSON",
                      .paragraphs = {"The file holds one object:"},
                      .entries = std::move(members)}},
        .examples = {{"dirtyring bench collect", "prints the table."},
                     {"dirtyring bench collect --json collect.json", "keeps the figures, too."}},
        .exit_status = bench_exit_status(),
        .see_also = {"dirtyring-bench(1)", "dirtyring-bench-overhead(1)", "dirtyring-probe(1)"},
    };
}

}  // namespace

Command add_bench_collect(CLI::App& bench) {
    CLI::App* const app = bench.add_subcommand("collect");
    set_manual(*app, collect_manual());
    const auto options = std::make_shared<BenchOptions>();
    add_bench_options(*app, *options);
    return {app, [options] {
                return run_bench("collect", options->json,
                                 [&](const BenchHost& host, Interruption& interruption) {
                                     return measure_and_tell(*options, host, interruption);
                                 });
            }};
}

}  // namespace dirtyring::cli
