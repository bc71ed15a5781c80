// SPDX-License-Identifier: MIT
//
// dirtyring bench reset: how many rounds a second a guest makes that is reset after each.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "bench.hpp"
#include "format.hpp"
#include "output_file.hpp"
#include "parse.hpp"
#include "reset_picture.hpp"
#include "reset_sweep.hpp"

namespace dirtyring::cli {

namespace {

using bench::Reset;
using Json = nlohmann::ordered_json;

constexpr std::uint64_t least_reset_memory = 64 * mib;
constexpr std::uint64_t most_pages = 50000;

// The command line --------------------------------------------------------------------------------

struct ResetOptions {
    BenchOptions common;
    std::string svg;
    // Empty: not given.
    std::vector<std::uint64_t> memories;
    std::vector<std::uint64_t> pages;
    std::vector<ResetPattern> patterns;
};

/// Reads each word of "a,b,c" and puts what it means into `values`, each once and in order.
template <typename T, typename Parse>
Result<void> store_list(std::vector<T>& values, std::string_view text, const Parse& parse) {
    values.clear();
    for (bool more = true; more;) {
        const std::size_t comma = text.find(',');
        Result<T> value = parse(text.substr(0, comma));
        if (!value) {
            return fail(std::move(value.error()));
        }
        values.push_back(*value);
        more = comma != std::string_view::npos;
        text.remove_prefix(more ? comma + 1 : 0);
    }
    std::ranges::sort(values);
    const auto repeated = std::ranges::unique(values);
    values.erase(repeated.begin(), repeated.end());
    return {};
}

Result<std::uint64_t> parse_memory(std::string_view text) {
    return parse_size(text, least_reset_memory, machine::max_memory)
        .and_then([&](std::uint64_t value) -> Result<std::uint64_t> {
            if (value % machine::memory_granule != 0) {
                return fail({0, fmt::format("\"{}\"", text), "it is not a multiple of 2 MiB",
                             fmt::format("give {}M", value / machine::memory_granule * 2 + 2)});
            }
            return value;
        });
}

Result<ResetPattern> parse_pattern(std::string_view text) {
    const auto* const found = std::ranges::find_if(
        reset_patterns, [&](ResetPattern pattern) { return name(pattern) == text; });
    if (found == reset_patterns.end()) {
        return fail({0, fmt::format("\"{}\"", text), "there is no such pattern",
                     "give some of same, drift, random, guests, clones"});
    }
    return *found;
}

ResetPlan plan_of(const ResetOptions& options) {
    using std::chrono::milliseconds;
    ResetPlan plan{.memories = {64 * mib, 1024 * mib, 16384 * mib},
                   .pages = {1, 10, 100, 500, 1000, 5000, 10000, most_pages},
                   .patterns = {reset_patterns.begin(), reset_patterns.end()},
                   .block = milliseconds(15),
                   .least_blocks = 2,
                   .most_blocks = 7,
                   .row_time = milliseconds(2000)};
    if (options.common.quick) {
        plan.memories = {least_reset_memory};
        plan.pages = {10, 1000};
        plan.block = milliseconds(1);
        plan.least_blocks = plan.most_blocks = 1;
        plan.row_time = milliseconds(0);
    }
    const auto narrow = [](auto& planned, const auto& given) {
        if (!given.empty()) {
            planned = given;
        }
    };
    narrow(plan.memories, options.memories);
    narrow(plan.pages, options.pages);
    narrow(plan.patterns, options.patterns);
    return plan;
}

// What it says ------------------------------------------------------------------------------------

std::string_view title(ResetPattern pattern) {
    switch (pattern) {
        case ResetPattern::same:
            return "the same pages in each round";
        case ResetPattern::drift:
            return "the same pages with 10 % drift";
        case ResetPattern::random:
            return "all random in each round";
        case ResetPattern::guests:
            return "guests at their own work";
        case ResetPattern::clones:
            break;
    }
    return "clones, the same pages in each round";
}

std::string ratio(std::optional<double> value) {
    return value ? fmt::format("{:.2f}", *value) : "-";
}

std::string table_head(std::uint64_t memory, ResetPattern pattern) {
    const bool guests = pattern == ResetPattern::guests;
    std::string out = fmt::format("\n{}, {}\n{:<{}}{:>7}", bytes(memory), title(pattern),
                                  guests ? "guest" : "", guests ? 10 : 0, "pages");
    for (const Reset way : bench::all_resets) {
        out += fmt::format("{:>8}", bench::name(way));
    }
    return out + fmt::format("{:>8}{:>7}\n", "/limit", "/peer");
}

std::string table_row(const ResetRow& row) {
    std::string out;
    if (row.pattern == ResetPattern::guests) {
        out = fmt::format("{:<10}", row.guest);
    }
    out += fmt::format("{:>7}", grouped(row.pages));
    for (const Reset way : bench::all_resets) {
        const std::optional<double> rate = row.rate(way);
        out += fmt::format("{:>8}", rate ? grouped(*rate) : "-");
    }
    return out +
           fmt::format("{:>8}{:>7}\n", ratio(row.ours_to_limit()), ratio(row.ours_to_best_peer()));
}

std::string heading(const ResetPlan& plan) {
    return fmt::format(
        "Rounds a second of a guest that is reset to a snapshot after each: medians of {} of\n"
        "{} or more and {} rounds or more, in which the ways take turns.\n"
        "  alone    the guest runs on: nothing is tracked, nothing restored\n"
        "  limit    memcpy of the pages that it dirties, which are known, and its registers\n"
        "  ours     Snapshot over the ring          manual   over the manually protected bitmap\n"
        "  ring, bitmap, wtf, nyx   ring; bitmap; manual bitmap in wtf's way; ring in QEMU-Nyx's:\n"
        "           memcpy of every page that was written, and the registers\n"
        "/limit and /peer: ours as a multiple of the limit, and of the best of the last four.\n",
        plan.least_blocks == plan.most_blocks
            ? counted(plan.most_blocks, "block")
            : fmt::format("{} to {} blocks", plan.least_blocks, plan.most_blocks),
        duration(static_cast<std::uint64_t>(plan.block.count())), reset_block_rounds);
}

/// How much longer a round takes in the largest memory than in the smallest.
struct ResetGrowth {
    ResetPattern pattern;
    std::uint64_t pages;
    std::uint64_t least_memory;
    std::uint64_t most_memory;
    double ours;
    std::optional<double> limit;
};

std::vector<ResetGrowth> growths(const std::vector<ResetRow>& rows, const ResetPlan& plan) {
    std::vector<ResetGrowth> all;
    for (const ResetRow& least : rows) {
        if (least.memory != plan.memories.front() || least.pattern == ResetPattern::guests) {
            continue;
        }
        const auto most = std::ranges::find_if(rows, [&](const ResetRow& row) {
            return row.memory == plan.memories.back() && row.memory != least.memory &&
                   row.pattern == least.pattern && row.pages == least.pages;
        });
        if (most == rows.end() || !most->rate(Reset::ours) || !least.rate(Reset::ours)) {
            continue;
        }
        const auto growth = [&](Reset way) { return *least.rate(way) / *most->rate(way); };
        const bool limit = most->rate(Reset::limit) && least.rate(Reset::limit);
        all.push_back({least.pattern, least.pages, least.memory, most->memory, growth(Reset::ours),
                       limit ? std::optional(growth(Reset::limit)) : std::nullopt});
    }
    return all;
}

std::string growth_table(const std::vector<ResetGrowth>& growths) {
    if (growths.empty()) {
        return {};
    }
    std::string out = fmt::format(
        "\nTime of a round of ours in {} as a multiple of that in {}, and the same of the limit\n"
        "{:<8}{:>7}{:>8}{:>8}\n",
        bytes(growths.front().most_memory), bytes(growths.front().least_memory), "pattern", "pages",
        "ours", "limit");
    for (const ResetGrowth& growth : growths) {
        out += fmt::format("{:<8}{:>7}{:>8}{:>8}\n", name(growth.pattern), grouped(growth.pages),
                           ratio(growth.ours), ratio(growth.limit));
    }
    return out;
}

std::string clones_lines(const CloneRates& rates) {
    return fmt::format(
        "\n{}, clones of one snapshot, each on a thread of its own, {} in each round:\n"
        "one {} rounds/s, two together {} rounds/s: {} times as many\n",
        bytes(rates.memory), counted(rates.pages, "page"), grouped(rates.one), grouped(rates.two),
        ratio(rates.ratio()));
}

Json or_null(std::optional<double> value) {
    return value ? Json(*value) : Json(nullptr);
}

Json json_of(const ResetRow& row) {
    Json json{{"memory_bytes", row.memory},
              {"pattern", name(row.pattern)},
              {"guest", row.guest},
              {"pages", row.pages},
              {"rates", Json::object()},
              {"ratio_to_limit", or_null(row.ours_to_limit())},
              {"ratio_to_best_peer", or_null(row.ours_to_best_peer())}};
    for (const auto& [way, rate] : row.ways) {
        json["rates"][std::string(bench::name(way))] = {
            {"rounds_per_second", rate.rounds_per_second},
            {"blocks", rate.blocks},
            {"rounds", rate.rounds},
            {"restored_pages", rate.pages},
            {"hot_pages", rate.hot}};
    }
    return json;
}

// What it measures --------------------------------------------------------------------------------

/// Prints as it goes and keeps it all.
class Report {
  public:
    explicit Report(const ResetPlan& plan) : plan_(plan) {}

    [[nodiscard]] ResetListener listener() {
        return {.table = [](std::uint64_t memory,
                            ResetPattern pattern) { return say(table_head(memory, pattern)); },
                .row =
                    [this](const ResetRow& row) {
                        rows_.push_back(row);
                        return say(table_row(row));
                    },
                .left_out =
                    [this](std::uint64_t memory, ResetPattern pattern, const Error& why) {
                        left_out_.push_back({{"memory_bytes", memory},
                                             {"pattern", name(pattern)},
                                             {"why", why.message()}});
                        return say(fmt::format("left out: {}\n", why.message()));
                    },
                .clones =
                    [this](const CloneRates& rates) {
                        clones_ = Json{{"memory_bytes", rates.memory},
                                       {"pages", rates.pages},
                                       {"blocks", rates.blocks},
                                       {"one_rounds_per_second", rates.one},
                                       {"two_rounds_per_second", rates.two},
                                       {"ratio", rates.ratio()}};
                        return say(clones_lines(rates));
                    }};
    }

    /// The last of the tables, and the members of the document. Errors: nothing could be measured.
    Result<Json> finish(std::uint32_t ring_entries) {
        if (rows_.empty() && clones_.is_null() && !left_out_.empty()) {
            return fail({0,
                         "measure resets",
                         "no machines could be made: " + left_out_[0]["why"].get<std::string>(),
                         {}});
        }
        const std::vector<ResetGrowth> grown = growths(rows_, plan_);
        Json json{{"block_ns", plan_.block.count()},
                  {"ring_entries", ring_entries},
                  {"measurements", Json::array()},
                  {"growths", Json::array()},
                  {"clones", clones_},
                  {"left_out", left_out_}};
        for (const ResetRow& row : rows_) {
            json["measurements"].push_back(json_of(row));
        }
        for (const ResetGrowth& growth : grown) {
            json["growths"].push_back({{"pattern", name(growth.pattern)},
                                       {"pages", growth.pages},
                                       {"least_memory_bytes", growth.least_memory},
                                       {"most_memory_bytes", growth.most_memory},
                                       {"ours", growth.ours},
                                       {"limit", or_null(growth.limit)}});
        }
        return say(growth_table(grown)).map([&] { return std::move(json); });
    }

    [[nodiscard]] std::string picture() const {
        return reset_picture(rows_, plan_.memories[plan_.memories.size() / 2]);
    }

  private:
    static Result<void> say(const std::string& text) {
        return write_all(STDOUT_FILENO, text, "standard output");
    }

    const ResetPlan& plan_;
    std::vector<ResetRow> rows_;
    Json left_out_ = Json::array();
    Json clones_;
};

Result<void> run_reset(const ResetOptions& options) {
    require_different({{"--json", options.common.json}, {"--svg", options.svg}});
    const ResetPlan plan = plan_of(options);
    Report report(plan);
    const auto measure = [&](const BenchHost& host, Interruption& interruption) {
        return write_all(STDOUT_FILENO, heading(plan), "standard output")
            .and_then([&] { return sweep(plan, host, interruption, report.listener()); })
            .and_then([&] { return report.finish(bench_ring_entries(host)); });
    };
    return run_bench("reset", options.common.json, measure,
                     {options.svg, [&] { return report.picture(); }});
}

Manual reset_manual() {
    std::vector<Entry> members = bench_json_members();
    members.insert(
        members.end(),
        {{"block_ns, ring_entries", "How it was measured."},
         {"measurements",
          "For each row of the tables: memory_bytes, pattern, guest, pages, ratio_to_limit, "
          "ratio_to_best_peer, and rates, which has for each way that took part "
          "rounds_per_second (the median of its blocks), blocks, rounds (of all blocks), "
          "restored_pages and hot_pages (both of the last round)."},
         {"growths",
          "For each pattern and number of pages: ours and limit, of the time of a round in "
          "most_memory_bytes to that in least_memory_bytes."},
         {"clones",
          "memory_bytes, pages, blocks, one_rounds_per_second, two_rounds_per_second, ratio; null "
          "if not measured."},
         {"left_out", "memory_bytes, pattern and why, where no machines could be made."}});
    return {
        .page = "dirtyring-bench-reset",
        .summary = "measure how fast a guest is reset to a snapshot",
        .description =
            {"Measures how many rounds a second a guest makes that is reset to a snapshot after "
             "each: by this library's Snapshot, beside what one does without it, the ways of two "
             "snapshot fuzzers, and the least that any way must do.",
             "A guest dirties 1 to 50,000 pages in each round, by a word in each, in memory of 64 "
             "MiB, 1 GiB and 16 GiB: the same pages each time (same), with one in ten replaced by "
             "another in each round (drift), or all others (random). All lie at random among at "
             "most 65,536 places spread over the whole memory, so that the host needs no more "
             "memory than these. The built-in guests at small work of their own (guests) and "
             "clones on two CPUs (clones) are measured in the smallest memory.",
             "Each way has a machine of its own, and they take turns: a block of rounds each, "
             "again and again; the median of a way's blocks is printed. The machines of a table "
             "go on from row to row. At the end of each row all memory that the guest can write "
             "is compared with the snapshot; a way that has not restored it ends the measurement. "
             "With the defaults it all takes from five minutes to half an hour, by what a write "
             "fault costs on the host, and some GiB of memory."},
        .sections =
            {{.title = "WAYS",
              .paragraphs = {},
              .entries =
                  {{"alone",
                    "The guest runs on. Nothing is tracked and nothing restored; the built-in "
                    "guests do other work in each round then."},
                   {"limit",
                    "Nothing is tracked; memcpy of the pages that the guest dirties, and the "
                    "registers. Which pages is known: of the patterns from their plan, which is "
                    "worked out for all rounds of a block before it is timed; of the built-in "
                    "guests because every round is the same, and its pages were compared once."},
                   {"ours", "Snapshot over the ring, with pages left writable that are hot."},
                   {"manual", "The same over the manually protected bitmap."},
                   {"ring",
                    "The pages that a Consumer over a ring gives, with memcpy, and the registers."},
                   {"bitmap", "The same over KVM_GET_DIRTY_LOG."},
                   {"wtf",
                    "The manually protected bitmap in wtf's way: scanned bit by bit into a hash "
                    "set of page numbers, memcpy, KVM_CLEAR_DIRTY_LOG of all; the registers."},
                   {"nyx",
                    "The ring in QEMU-Nyx's way: a bitmap and a stack of pages for each slot, one "
                    "reset, memcpy; the registers."}}},
             {.title = "JSON",
              .paragraphs = {"The file holds one object:"},
              .entries = std::move(members)}},
        .examples = {{"dirtyring bench reset --json reset.json --svg reset.svg",
                      "measures everything and keeps it."},
                     {"dirtyring bench reset --memory 1G --pages 100,1000 --pattern same",
                      "measures two rows."}},
        .exit_status = bench_exit_status(),
        .see_also = {"dirtyring-bench(1)", "dirtyring-bench-collect(1)", "dirtyring-reset(1)",
                     "dirtyring-probe(1)"},
    };
}

}  // namespace

Command add_bench_reset(CLI::App& bench) {
    CLI::App* const app = bench.add_subcommand("reset");
    set_manual(*app, reset_manual());
    const auto options = std::make_shared<ResetOptions>();
    ResetOptions& o = *options;
    add_parsed(
        *app, "--memory", "LIST",
        "Sizes of guest memory, 64M to 64G; the default is 64M,1G,16G, or 64M with --quick.",
        [&o](const std::string& text) { return store_list(o.memories, text, parse_memory); });
    add_parsed(*app, "--pages", "LIST",
               "Pages dirtied in a round, 1 to 50000; the default is "
               "1,10,100,500,1000,5000,10000,50000, or 10,1000 with --quick. What does not fit "
               "into a memory is not measured in it.",
               [&o](const std::string& text) {
                   return store_list(o.pages, text, [](std::string_view word) {
                       return parse_count(word, 1, most_pages);
                   });
               });
    add_parsed(
        *app, "--pattern", "LIST",
        "Some of same, drift, random, guests, clones; the default is all.",
        [&o](const std::string& text) { return store_list(o.patterns, text, parse_pattern); });
    add_bench_options(*app, o.common);
    app->add_option("--svg", o.svg,
                    "Draws rounds a second against pages, a panel for each pattern, of the middle "
                    "one of the sizes of memory.")
        ->type_name("FILE");
    return {app, [options] { return run_reset(*options); }};
}

}  // namespace dirtyring::cli
