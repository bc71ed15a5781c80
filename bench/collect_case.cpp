// SPDX-License-Identifier: MIT
#include "collect_case.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "guests/bench/scatter_plan.hpp"
#include "machine/layout.hpp"
#include "machine/round_machine.hpp"

namespace dirtyring::bench {

namespace {

using Clock = std::chrono::steady_clock;

/// Rounds before the timed ones: what is allocated once is, and memory has been touched.
constexpr std::uint32_t warm_up = 4;

/// How many pages beside those that the guest means to write a collect may give: its stack and
/// variables, and what a kernel logs for its own reasons (docs/caveats.md).
constexpr std::uint64_t allowance = 16;

/// The VMM's part and the program, with room to spare.
constexpr std::uint64_t below_heap = 2 * guest_abi::reserved;

/// A way and its machine.
class Contender {
  public:
    [[nodiscard]] static Result<Contender> create(Rival rival, const Case& what,
                                                  std::span<const std::byte> guest);

    /// Gives the nanoseconds of its part after the guest's.
    Result<double> round();

  private:
    Contender(Rival rival, machine::RoundMachine machine, std::unique_ptr<Way> way)
        : rival_(rival), machine_(std::move(machine)), way_(std::move(way)) {}
    void plan(const Case& what);
    [[nodiscard]] Result<void> check();

    Rival rival_;
    machine::RoundMachine machine_;
    std::unique_ptr<Way> way_;
    std::vector<std::uint64_t> written_;  // addresses, in order
    std::vector<std::uint64_t> found_;    // in this round
    std::uint32_t round_ = 0;
};

Result<Contender> Contender::create(Rival rival, const Case& what,
                                    std::span<const std::byte> guest) {
    const Tracking tracking = tracking_of(rival);
    const machine::Config config{
        .vcpus = 1,
        .memory = what.memory,
        .ring_entries = tracking == Tracking::ring ? what.ring_entries : 0,
        .log_dirty = true,
        .manual_protect = tracking == Tracking::manual_bitmap,
        .params = {{"working_set", std::to_string(what.memory - below_heap)},
                   {"writes", std::to_string(what.pages)}}};
    Result<machine::RoundMachine> machine =
        machine::RoundMachine::create(config, {"scatter", guest});
    if (!machine) {
        return fail(std::move(machine.error()));
    }
    Result<std::unique_ptr<Way>> way = make_way(rival, machine->machine());
    if (!way) {
        return fail(std::move(way.error()));
    }
    Contender contender(rival, std::move(*machine), std::move(*way));
    contender.plan(what);
    return contender;
}

void Contender::plan(const Case& what) {
    guest_abi::Info info;
    std::memcpy(&info, machine_.machine().bytes().data() + machine::layout::info, sizeof info);
    const guest::ScatterPlan plan((what.memory - below_heap) / page_size, what.pages);
    for (std::uint64_t number = 0; number < what.pages; ++number) {
        written_.push_back(
            machine::layout::physical(info.heap_base + plan.page(number) * page_size));
    }
    std::ranges::sort(written_);
}

Result<double> Contender::round() {
    if (Result<void> ran = machine_.run_round(); !ran) {
        return fail(std::move(ran.error()));
    }
    ++round_;
    found_.clear();
    const Clock::time_point begin = Clock::now();
    Result<void> done = way_->collect(found_);
    const std::chrono::duration<double, std::nano> time = Clock::now() - begin;
    if (done) {
        done = check();
    }
    return done.map([&] { return time.count(); });
}

Result<void> Contender::check() {
    std::ranges::sort(found_);
    const bool once = std::ranges::adjacent_find(found_) == found_.end();
    // The first collects also have what was written before the guest ran, and as it began.
    const bool few = round_ <= warm_up || found_.size() <= written_.size() + allowance;
    if (once && few && std::ranges::includes(found_, written_)) {
        return {};
    }
    return fail({0,
                 fmt::format("collect by {}", name(rival_)),
                 fmt::format("{} pages were written in round {} and it found others, {} in all",
                             written_.size(), round_, found_.size()),
                 {}});
}

}  // namespace

Result<void> run_case(const Case& what, std::span<const Rival> order,
                      std::span<const std::byte> guest, Samples& samples) {
    std::vector<Contender> contenders;
    for (const Rival rival : order) {
        Result<Contender> contender = Contender::create(rival, what, guest);
        if (!contender) {
            return fail(std::move(contender.error()));
        }
        contenders.push_back(std::move(*contender));
    }
    for (std::uint32_t round = 0; round < warm_up + what.rounds; ++round) {
        for (std::size_t i = 0; i < contenders.size(); ++i) {
            const Result<double> time = contenders[i].round();
            if (!time) {
                return fail(time.error());
            }
            if (round >= warm_up) {
                samples[static_cast<std::size_t>(order[i])].push_back(*time);
            }
        }
    }
    return {};
}

}  // namespace dirtyring::bench
