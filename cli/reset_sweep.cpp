// SPDX-License-Identifier: MIT
#include "reset_sweep.hpp"

#include <algorithm>
#include <memory>
#include <utility>

#include "builtin_guests.hpp"
#include "rivals/clones.hpp"

namespace dirtyring::cli {

namespace {

using bench::Reset;
using Clock = std::chrono::steady_clock;

/// After which a way that learns has learned.
constexpr std::uint64_t learning_rounds = 40;

double seconds(Clock::duration time) {
    return std::chrono::duration<double>(time).count();
}

/// A guest that is measured, and how.
struct Work {
    ResetPattern pattern;
    bench::ResetCase what;
    std::vector<std::uint64_t> pages;  ///< of replay's rows; one row for any other guest
};

/// A way in a contest.
struct Contender {
    Reset way;
    std::unique_ptr<bench::ResetLoop> loop;
    double rate = 0;  // of its last block
    std::vector<double> rates;
    std::uint64_t rounds = 0;
};

/// The ways of a workload, each with a machine of its own.
class Contest {
  public:
    Contest(const ResetPlan& plan, const BenchHost& host, Interruption& interruption)
        : plan_(plan), host_(host), interruption_(interruption) {}

    /// Errors: those of make_loop.
    Result<void> begin(const bench::ResetCase& what) {
        for (const Reset way : bench::all_resets) {
            const std::optional<Tracking> tracking = bench::tracking_of(way);
            if (interruption_.signal() != 0 ||
                (tracking && !host_.kvm.tracking[static_cast<std::size_t>(*tracking)].usable)) {
                continue;
            }
            Result<std::unique_ptr<bench::ResetLoop>> loop = bench::make_loop(way, what);
            if (!loop) {
                return fail(std::move(loop.error()));
            }
            contenders_.push_back({.way = way, .loop = std::move(*loop), .rates = {}});
        }
        return {};
    }

    /// Nothing after a signal, unless there is something to say. `pages`: 0 for guests that are not
    /// told.
    Result<std::optional<ResetRow>> measure(std::uint64_t pages) {
        for (Contender& contender : contenders_) {
            contender.loop->write(pages);
            contender.rates.clear();
            contender.rounds = 0;
        }
        // Not timed: memory is touched, and ways that learn have learned.
        Result<bool> going = take_turns(pages, [&](Contender& one) { return warm_up(one); });
        const Clock::time_point begin = Clock::now();
        for (std::size_t block = 0; going && *going && block < plan_.most_blocks; ++block) {
            if (block >= plan_.least_blocks && Clock::now() - begin > plan_.row_time) {
                break;
            }
            going = take_turns(pages, [&](Contender& one) { return timed(one); });
        }
        if (!going) {
            return fail(std::move(going.error()));
        }
        return row(pages);
    }

  private:
    /// A round must not fill the ring; some pages are logged that the guest does not mean to write.
    [[nodiscard]] bool fits(const Contender& contender, std::uint64_t pages) const {
        return bench::tracking_of(contender.way) != Tracking::ring ||
               pages <= std::uint64_t{bench_ring_entries(host_)} / 5 * 4;
    }

    /// False after a signal.
    template <typename Turn>
    Result<bool> take_turns(std::uint64_t pages, Turn&& turn) {
        for (Contender& contender : contenders_) {
            if (!fits(contender, pages)) {
                continue;
            }
            if (Result<void> done = turn(contender); !done) {
                return fail(std::move(done.error()));
            }
            if (interruption_.signal() != 0) {
                return false;
            }
        }
        return true;
    }

    /// Snapshot finds out which pages are hot and which to copy densely.
    static bool learns(Reset way) { return way == Reset::ours || way == Reset::manual; }

    Result<void> warm_up(Contender& contender) {
        const Clock::time_point begin = Clock::now();
        std::uint64_t rounds = 0;
        Clock::duration time{};
        do {
            contender.loop->prepare(1);
            if (Result<void> done = contender.loop->round(); !done) {
                return done;
            }
            ++rounds;
            time = Clock::now() - begin;
        } while (
            (time < plan_.block || rounds < reset_block_rounds ||
             (learns(contender.way) && rounds < learning_rounds && time < 3 * plan_.row_time)) &&
            interruption_.signal() == 0);
        contender.rate = static_cast<double>(rounds) / seconds(time);
        return {};
    }

    Result<void> timed(Contender& contender) {
        const auto rounds = std::max(
            reset_block_rounds, static_cast<std::uint64_t>(contender.rate * seconds(plan_.block)));
        contender.loop->prepare(rounds);
        const Clock::time_point begin = Clock::now();
        for (std::uint64_t i = 0; i < rounds; ++i) {
            if (Result<void> done = contender.loop->round(); !done) {
                return done;
            }
        }
        contender.rate = static_cast<double>(rounds) / seconds(Clock::now() - begin);
        contender.rates.push_back(contender.rate);
        contender.rounds += rounds;
        return {};
    }

    Result<std::optional<ResetRow>> row(std::uint64_t pages) {
        ResetRow row;
        row.pages = pages;
        for (Contender& contender : contenders_) {
            if (contender.rates.empty()) {
                continue;
            }
            if (Result<void> whole = contender.loop->check(); !whole) {
                Error error = whole.error();
                error.operation += " (" + std::string(bench::name(contender.way)) + ")";
                return fail(std::move(error));
            }
            row.ways[contender.way] = {.rounds_per_second = median(contender.rates),
                                       .blocks = contender.rates.size(),
                                       .rounds = contender.rounds,
                                       .pages = contender.loop->pages(),
                                       .hot = contender.loop->hot()};
        }
        return row.ways.empty() ? std::nullopt : std::optional(std::move(row));
    }

    const ResetPlan& plan_;
    const BenchHost& host_;
    Interruption& interruption_;
    std::vector<Contender> contenders_;
};

struct GuestWork {
    std::string_view guest;
    std::vector<std::pair<std::string, std::string>> params;
};

/// Small, as what one resets is.
const std::vector<GuestWork>& guest_works() {
    static const std::vector<GuestWork> works = {
        {"hash_table", {{"keys", "20000"}, {"operations", "2000"}}},
        {"log_store", {{"keys", "5000"}, {"operations", "1000"}}},
        {"merge_sort", {{"records", "100000"}, {"run", "8K"}}},
        {"spmv", {{"rows", "20000"}, {"iterations", "1"}}},
        {"writer", {{"working_set", "16M"}, {"writes", "2000"}}},
    };
    return works;
}

machine::Program program_of(std::string_view guest) {
    if (guest == replay_guest().name) {
        return {replay_guest().name, replay_guest().file};
    }
    const auto found = std::ranges::find(builtin_guests(), guest, &BuiltinGuest::name);
    return {found->name, found->file};  // all that are asked for are there
}

class Sweep {
  public:
    Sweep(const ResetPlan& plan, const BenchHost& host, Interruption& interruption,
          const ResetListener& listener)
        : plan_(plan), host_(host), interruption_(interruption), listener_(listener) {}

    Result<void> run() {
        for (const std::uint64_t memory : plan_.memories) {
            for (const ResetPattern pattern :
                 {ResetPattern::same, ResetPattern::drift, ResetPattern::random}) {
                if (Result<void> done = replay(memory, pattern); !done) {
                    return done;
                }
            }
        }
        return guests().and_then([&] { return clones(); });
    }

  private:
    [[nodiscard]] bool wants(ResetPattern pattern) const {
        return plan_.has(pattern) && interruption_.signal() == 0;
    }
    [[nodiscard]] bench::ResetCase replay_case(std::uint64_t memory, ResetPattern pattern) const {
        return {.memory = memory,
                .ring_entries = bench_ring_entries(host_),
                .guest = program_of(replay_guest().name),
                .params = {},
                .lifetime = pattern == ResetPattern::drift    ? 10
                            : pattern == ResetPattern::random ? 1
                                                              : 0};
    }

    Result<void> replay(std::uint64_t memory, ResetPattern pattern) {
        if (!wants(pattern)) {
            return {};
        }
        Work work{pattern, replay_case(memory, pattern), {}};
        const std::uint64_t most = bench::replay_plan(memory, 0).spots();
        std::ranges::copy_if(plan_.pages, std::back_inserter(work.pages),
                             [&](std::uint64_t pages) { return pages <= most; });
        return listener_.table(memory, pattern).and_then([&] { return contest(work); });
    }

    Result<void> guests() {
        if (!wants(ResetPattern::guests)) {
            return {};
        }
        const std::uint64_t memory = plan_.memories.front();
        Result<void> done = listener_.table(memory, ResetPattern::guests);
        for (const auto& [guest, params] : guest_works()) {
            if (!done) {
                break;
            }
            const Work work{ResetPattern::guests,
                            {.memory = memory,
                             .ring_entries = bench_ring_entries(host_),
                             .guest = program_of(guest),
                             .params = params,
                             .lifetime = std::nullopt},
                            {0}};
            done = contest(work);
        }
        return done;
    }

    Result<void> contest(const Work& work) {
        Contest contest(plan_, host_, interruption_);
        if (const Result<void> begun = contest.begin(work.what); !begun) {
            return listener_.left_out(work.what.memory, work.pattern, begun.error());
        }
        for (const std::uint64_t pages : work.pages) {
            if (interruption_.signal() != 0) {
                break;
            }
            Result<std::optional<ResetRow>> measured = contest.measure(pages);
            if (!measured) {
                return fail(std::move(measured.error()));
            }
            std::optional<ResetRow>& row = *measured;
            if (!row) {
                break;
            }
            row->memory = work.what.memory;
            row->pattern = work.pattern;
            row->guest = work.what.guest.name;
            if (const auto ours = row->ways.find(Reset::ours);
                work.pattern == ResetPattern::guests && ours != row->ways.end()) {
                row->pages = ours->second.pages;
            }
            if (Result<void> told = listener_.row(*row); !told) {
                return told;
            }
        }
        return {};
    }

    Result<void> clones() {
        const bool usable =
            host_.kvm.tracking[static_cast<std::size_t>(Tracking::ring)].usable && host_.cpus > 1;
        if (!wants(ResetPattern::clones) || !usable) {
            return {};
        }
        // Enough that it is not all exits, and not so much that it is all memory.
        constexpr std::uint64_t most_pages = 1000;
        CloneRates rates{.memory = plan_.memories.front(), .pages = plan_.pages.front()};
        for (const std::uint64_t pages : plan_.pages) {
            rates.pages = pages <= most_pages ? pages : rates.pages;
        }
        const Result<std::unique_ptr<bench::Clones>> clones =
            bench::Clones::create(replay_case(rates.memory, ResetPattern::same));
        if (!clones) {
            return listener_.left_out(rates.memory, ResetPattern::clones, clones.error());
        }
        (*clones)->write(rates.pages);
        Result<bool> measured = measure(**clones, rates);
        if (!measured) {
            return fail(std::move(measured.error()));
        }
        return *measured ? listener_.clones(rates) : Result<void>();
    }

    /// False after a signal.
    Result<bool> measure(bench::Clones& clones, CloneRates& rates) {
        // Threads begin and end apart from each other: a block is longer for that.
        const auto block = plan_.block * 10;
        std::array<std::vector<double>, bench::Clones::most> all;
        for (std::size_t i = 0; i <= plan_.most_blocks; ++i) {
            for (std::size_t count = 1; count <= all.size(); ++count) {
                const Result<double> rate = clones.rate(count, block);
                if (!rate) {
                    return fail(rate.error());
                }
                if (interruption_.signal() != 0) {
                    return false;
                }
                if (i != 0) {  // the first warms up
                    all[count - 1].push_back(*rate);
                }
            }
        }
        rates.one = median(all[0]);
        rates.two = median(all[1]);
        rates.blocks = all[0].size();
        return clones.check().map([] { return true; });
    }

    const ResetPlan& plan_;
    const BenchHost& host_;
    Interruption& interruption_;
    const ResetListener& listener_;
};

}  // namespace

std::string_view name(ResetPattern pattern) noexcept {
    constexpr std::array<std::string_view, reset_patterns.size()> names = {
        "same", "drift", "random", "guests", "clones"};
    return names[static_cast<std::size_t>(pattern)];
}

bool ResetPlan::has(ResetPattern pattern) const {
    return std::ranges::find(patterns, pattern) != patterns.end();
}

std::optional<double> ResetRow::rate(Reset way) const {
    const auto found = ways.find(way);
    return found == ways.end() ? std::nullopt : std::optional(found->second.rounds_per_second);
}

std::optional<double> ResetRow::ours_to_limit() const {
    const std::optional<double> ours = rate(Reset::ours);
    const std::optional<double> limit = rate(Reset::limit);
    return ours && limit ? std::optional(*ours / *limit) : std::nullopt;
}

std::optional<double> ResetRow::ours_to_best_peer() const {
    double best = 0;
    for (const Reset peer : bench::peer_resets) {
        best = std::max(best, rate(peer).value_or(0));
    }
    const std::optional<double> ours = rate(Reset::ours);
    return ours && best > 0 ? std::optional(*ours / best) : std::nullopt;
}

Result<void> sweep(const ResetPlan& plan, const BenchHost& host, Interruption& interruption,
                   const ResetListener& listener) {
    return Sweep(plan, host, interruption, listener).run();
}

}  // namespace dirtyring::cli
