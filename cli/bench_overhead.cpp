// SPDX-License-Identifier: MIT
//
// dirtyring bench overhead: what tracking costs a guest.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "bench.hpp"
#include "format.hpp"
#include "guest_overhead.hpp"
#include "output_file.hpp"
#include "parse.hpp"

namespace dirtyring::cli {

namespace {

using Json = nlohmann::ordered_json;

struct OverheadOptions {
    BenchOptions common;
    std::uint32_t vcpus = 1;
    std::optional<std::chrono::nanoseconds> seconds;

    [[nodiscard]] std::chrono::nanoseconds turn() const {
        return seconds.value_or(common.quick ? std::chrono::milliseconds(100)
                                             : std::chrono::milliseconds(500));
    }
    [[nodiscard]] int turns() const { return common.quick ? 1 : 5; }
};

Result<void> store_vcpus(OverheadOptions& options, const std::string& text) {
    return parse_count(text, 1, machine::max_vcpus).map([&](std::uint64_t value) {
        options.vcpus = static_cast<std::uint32_t>(value);
    });
}

Result<void> store_seconds(OverheadOptions& options, const std::string& text) {
    return parse_seconds(text).map(
        [&](std::chrono::nanoseconds value) { options.seconds = value; });
}

struct Workload {
    std::string label;
    std::string guest;
    std::vector<std::pair<std::string, std::string>> params;
    bool quick = false;  ///< measured with --quick as well
};

/// Every built-in guest as dirtyring run has it, and more than one kind of the writer, in shorter
/// rounds: a way can make it very slow.
std::vector<Workload> workloads() {
    const std::pair<std::string, std::string> short_rounds = {"writes", "100000"};
    return {
        {.label = "log_store", .guest = "log_store", .params = {}, .quick = true},
        {.label = "hash_table", .guest = "hash_table", .params = {}},
        {.label = "merge_sort", .guest = "merge_sort", .params = {}},
        {.label = "spmv", .guest = "spmv", .params = {}},
        {.label = "writer, uniform in 4 MiB",
         .guest = "writer",
         .params = {{"working_set", "4M"}, short_rounds},
         .quick = true},
        {.label = "writer, uniform in 64 MiB",
         .guest = "writer",
         .params = {{"working_set", "64M"}, short_rounds}},
        {.label = "writer, Zipf in 64 MiB",
         .guest = "writer",
         .params = {{"working_set", "64M"}, {"pattern", "zipf"}, short_rounds}},
    };
}

/// Medians over the turns.
struct Overhead {
    std::uint64_t rounds = 0;       ///< of a turn
    std::uint64_t page_writes = 0;  ///< of an untracked turn
    double untracked = 0;           ///< page writes a second
    std::map<Track, double> rates;  ///< the same; of the ways that this host has
};

double rate(const TurnResult& result) {
    return static_cast<double>(result.page_writes) /
           std::chrono::duration<double>(result.time).count();
}

/// The ways of a workload, the same in everything else.
class Turns {
  public:
    Turns(const OverheadOptions& options, const BenchHost& host, const Workload& workload,
          Interruption& interruption)
        : turn_{.machine = {.vcpus = options.vcpus,
                            .memory = std::uint64_t{256} << 20,
                            .params = workload.params},
                .track = std::nullopt,
                .ring_entries = bench_ring_entries(host),
                .least = options.turn()},
          interruption_(interruption) {
        for (const Track track : tracks) {
            if (support_of(host, track).usable) {
                ways_.emplace_back(track);
            }
        }
    }

    using Use = std::function<void(const std::optional<Track>& way, const TurnResult& result)>;
    /// One turn of `rounds` rounds for each way, untracked first. False after a signal.
    Result<bool> take(const GuestFile& guest, std::uint64_t rounds, const Use& use) {
        turn_.rounds = rounds;
        for (const std::optional<Track>& way : ways_) {
            turn_.track = way;
            const Result<std::optional<TurnResult>> result = run_turn(turn_, guest, interruption_);
            if (!result) {
                return fail(result.error());
            }
            const std::optional<TurnResult>& turned = *result;
            if (!turned) {
                return false;
            }
            use(way, *turned);
        }
        return true;
    }

  private:
    Turn turn_;
    Interruption& interruption_;
    std::vector<std::optional<Track>> ways_ = {std::nullopt};
};

/// Nothing after a signal. The ways take their turns one after the other, again and again: a host
/// that is slower for a while is so for all of them.
Result<std::optional<Overhead>> measure(const OverheadOptions& options, const BenchHost& host,
                                        const Workload& workload, Interruption& interruption) {
    const Result<GuestFile> guest = load_guest(workload.guest);
    if (!guest) {
        return fail(guest.error());
    }
    Turns turns(options, host, workload, interruption);
    // As many rounds as take the time that was asked for untracked, but not over ten times as long
    // in any way.
    Overhead overhead;
    overhead.rounds = ~std::uint64_t{0};
    Result<bool> going = turns.take(*guest, 0, [&](const auto& way, const TurnResult& result) {
        overhead.rounds = std::min(overhead.rounds, way ? 10 * result.rounds : result.rounds);
    });
    std::map<std::optional<Track>, std::vector<double>> rates;
    for (int i = 0; going && *going && i < options.turns(); ++i) {
        going = turns.take(*guest, overhead.rounds, [&](const auto& way, const TurnResult& result) {
            overhead.page_writes = way ? overhead.page_writes : result.page_writes;
            rates[way].push_back(rate(result));
        });
    }
    if (!going) {
        return fail(std::move(going.error()));
    }
    if (!*going) {
        return std::nullopt;
    }
    for (auto& [way, all] : rates) {
        (way ? overhead.rates[*way] : overhead.untracked) = median(std::move(all));
    }
    return overhead;
}

constexpr std::string_view row_format = "{:<26} {:>15} {:>8} {:>8} {:>8}\n";

std::string heading(const OverheadOptions& options) {
    return fmt::format(
               "{}, medians of {} of {} or less untracked, collected every {}.\n"
               "A way's figure is its rate as a share of the untracked one.\n\n",
               counted(options.vcpus, "vCPU"),
               counted(static_cast<std::uint64_t>(options.turns()), "turn"),
               duration(static_cast<std::uint64_t>(options.turn().count())),
               duration(std::chrono::nanoseconds(overhead_interval).count())) +
           fmt::format(fmt::runtime(row_format), "guest", "page writes/s", name(tracks[0]),
                       name(tracks[1]), name(tracks[2]));
}

std::string row(const Workload& workload, const Overhead& overhead) {
    std::array<std::string, tracks.size()> shares;
    std::ranges::transform(tracks, shares.begin(), [&](Track track) {
        const auto rate = overhead.rates.find(track);
        return rate == overhead.rates.end() ? "no" : percent(rate->second, overhead.untracked);
    });
    return fmt::format(fmt::runtime(row_format), workload.label, grouped(overhead.untracked),
                       shares[0], shares[1], shares[2]);
}

Json json_of(const Workload& workload, const Overhead& overhead) {
    Json json{{"guest", workload.guest},
              {"params", Json::object()},
              {"rounds", overhead.rounds},
              {"page_writes", overhead.page_writes},
              {"untracked", {{"page_writes_per_second", overhead.untracked}}}};
    for (const auto& [name, value] : workload.params) {
        json["params"][name] = value;
    }
    for (const auto& [track, rate] : overhead.rates) {
        json[name(track)] = {{"page_writes_per_second", rate},
                             {"ratio_to_untracked", rate / overhead.untracked}};
    }
    return json;
}

Result<Json> measure_all(const OverheadOptions& options, const BenchHost& host,
                         Interruption& interruption) {
    Result<void> told = write_all(STDOUT_FILENO, heading(options), "standard output");
    Json guests = Json::array();
    for (const Workload& workload : workloads()) {
        if (!told) {
            return fail(std::move(told.error()));
        }
        if (options.common.quick && !workload.quick) {
            continue;
        }
        const Result<std::optional<Overhead>> measured =
            measure(options, host, workload, interruption);
        if (!measured) {
            return fail(measured.error());
        }
        const std::optional<Overhead>& overhead = *measured;
        if (!overhead) {
            break;
        }
        guests.push_back(json_of(workload, *overhead));
        told = write_all(STDOUT_FILENO, row(workload, *overhead), "standard output");
    }
    if (!told) {
        return fail(std::move(told.error()));
    }
    return Json{{"vcpus", options.vcpus},
                {"turn_ns", options.turn().count()},
                {"turns", options.turns()},
                {"interval_ns", std::chrono::nanoseconds(overhead_interval).count()},
                {"ring_entries", bench_ring_entries(host)},
                {"guests", std::move(guests)}};
}

Result<void> run_overhead(const OverheadOptions& options) {
    return run_bench("overhead", options.common.json,
                     [&](const BenchHost& host, Interruption& interruption) {
                         return measure_all(options, host, interruption);
                     });
}

Manual overhead_manual() {
    std::vector<Entry> members = bench_json_members();
    members.insert(
        members.end(),
        {{"vcpus, turn_ns, turns, interval_ns, ring_entries", "How it was measured."},
         {"guests",
          "For each: guest, params, rounds (measured in each turn), page_writes (in an untracked "
          "turn); untracked, with page_writes_per_second; and for each way that the host has, "
          "page_writes_per_second and ratio_to_untracked. Rates are medians over the turns."}});
    return {
        .page = "dirtyring-bench-overhead",
        .summary = "measure what tracking costs a guest",
        .description =
            {"Runs each built-in guest untracked (without dirty logging), with the ring, with the "
             "bitmap and with the manually protected bitmap, and prints how many pages a second "
             "it writes by its own count, and what share of that rate is left when it is tracked. "
             "Tracked, its pages are collected ten times a second, and its rings are drained in "
             "between, as dirtyring run does.",
             "The ways take turns, and every turn is the same rounds of the same work. A guest's "
             "set-up and its first round are not measured. With the defaults it all takes some "
             "minutes."},
        .sections = {{.title = "JSON",
                      .paragraphs = {"The file holds one object:"},
                      .entries = std::move(members)}},
        .examples = {{"dirtyring bench overhead", "measures with one vCPU."},
                     {"dirtyring bench overhead --vcpus 2 --json overhead.json",
                      "measures with two, and keeps the figures."}},
        .exit_status = bench_exit_status(),
        .see_also = {"dirtyring-bench(1)", "dirtyring-bench-collect(1)", "dirtyring-run(1)"},
    };
}

}  // namespace

Command add_bench_overhead(CLI::App& bench) {
    CLI::App* const app = bench.add_subcommand("overhead");
    set_manual(*app, overhead_manual());
    const auto options = std::make_shared<OverheadOptions>();
    OverheadOptions& o = *options;
    add_parsed(*app, "--vcpus", "N", "vCPUs, 1 to 32; the default is 1.",
               [&o](const std::string& text) { return store_vcpus(o, text); });
    add_parsed(
        *app, "--seconds", "S",
        "About how long a turn takes untracked, from the end of the guest's first round; "
        "the default is 0.5, or 0.1 with --quick. Tracked, the same work takes longer; it is "
        "less work where that would be over ten times as long.",
        [&o](const std::string& text) { return store_seconds(o, text); });
    add_bench_options(*app, o.common);
    return {app, [options] { return run_overhead(*options); }};
}

}  // namespace dirtyring::cli
