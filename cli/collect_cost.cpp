// SPDX-License-Identifier: MIT
#include "collect_cost.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <span>
#include <utility>

#include "bench.hpp"
#include "dirtyring/source/ring_source.hpp"
#include "format.hpp"
#include "machine/layout.hpp"
#include "machine_tracking.hpp"

namespace dirtyring::cli {

namespace {

/// Rounds before the timed ones: what is allocated once is, and caches are warm.
constexpr std::uint32_t warm_up = 4;

/// How many pages beside those of the working set a collect may give: the guest's stack and
/// variables, and what a kernel logs for its own reasons (docs/caveats.md).
constexpr std::uint64_t allowance = 64;

/// The guest notes each store in a ledger of 8 bytes a page behind its working set.
constexpr std::uint64_t ledger_per_page = page_size / sizeof(std::uint64_t);

/// Pages of the ledger are dirtied as well: as many as there are stores where these lie far apart,
/// all of it where they lie close. Both together shall be `pages`. They are the same pages in every
/// memory, spread over its first 64 MiB, so that only the size of the memory differs.
guest::WriterPlan plan_for(const CollectCase& what) {
    // The VMM's part and the program, with room to spare.
    constexpr std::uint64_t below_heap = 2 * guest_abi::reserved;
    const std::uint64_t heap_pages = (least_memory - below_heap) / page_size;
    const std::uint64_t pages = heap_pages * ledger_per_page / (ledger_per_page + 1) - 1;
    const std::uint64_t ledger_pages = (pages + ledger_per_page - 1) / ledger_per_page;
    const std::uint64_t writes = what.pages - std::min(ledger_pages, what.pages / 2);
    return {.pattern = guest::WriterPattern::stride,
            .pages = pages,
            .writes = writes,
            .read_share = 0,
            .stride = (pages + writes - 1) / writes,
            .seed = 1,
            .vcpu = 0,
            .vcpus = 1};
}

/// Where the working set begins, in pages of guest memory.
std::uint64_t first_page(machine::Machine& machine) {
    guest_abi::Info info;
    std::memcpy(&info, machine.bytes().data() + machine::layout::info, sizeof info);
    return info.heap_base / page_size;
}

/// `page` counts through all slots.
bool contains(const DirtySet& set, std::uint64_t page) {
    const std::span<const MemorySlot> slots = set.memory().slots();
    std::size_t place = 0;
    while (page >= slots[place].pages()) {
        page -= slots[place++].pages();
    }
    return set.pages(place).contains(page);
}

}  // namespace

CollectCost::CollectCost(const CollectCase& what) : case_(what), plan_(plan_for(what)) {}

Result<std::unique_ptr<CollectCost>> CollectCost::create(const CollectCase& what,
                                                         const GuestFile& writer) {
    std::unique_ptr<CollectCost> cost(new CollectCost(what));
    const guest::WriterPlan& plan = cost->plan_;
    const machine::Config config{.vcpus = 1,
                                 .memory = what.memory,
                                 .params = {{"pattern", "stride"},
                                            {"working_set", std::to_string(plan.pages * page_size)},
                                            {"writes", std::to_string(plan.writes)},
                                            {"stride", std::to_string(plan.stride)},
                                            {"seed", std::to_string(plan.seed)}}};
    Result<std::unique_ptr<machine::Machine>> machine =
        machine::Machine::create(tracked(config, what.track, what.ring_entries),
                                 {writer.name, writer.bytes()}, cost->callbacks());
    if (!machine) {
        return fail(std::move(machine.error()));
    }
    cost->machine_ = std::move(*machine);
    cost->source_ = make_source(*cost->machine_, what.track);
    if (RingSource* const rings = cost->source_->rings(); rings != nullptr) {
        Result<Ring> ring = Ring::map(cost->machine_->vcpu(0));
        if (!ring) {
            return fail(std::move(ring.error()));
        }
        rings->add(std::move(*ring));
    }
    return cost;
}

machine::Callbacks CollectCost::callbacks() {
    return {.on_ring_full = [this](std::uint32_t) -> Result<void> {
                return fail({0, fmt::format("dirty {} in a round", counted(case_.pages, "page")),
                             fmt::format("the ring of {} is full before its end",
                                         counted(case_.ring_entries, "entry")),
                             "measure on a host with larger rings (dirtyring probe)"});
            },
            .on_round = [this](std::uint32_t, std::uint64_t) { collect(); },
            .on_console = {}};
}

// On the vCPU's thread, which is out of the guest.
void CollectCost::collect() {
    const auto begin = std::chrono::steady_clock::now();
    Result<Pages> pages = source_->collect(std::move(storage_));
    const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - begin;
    ++round_;
    collected_ = pages ? check(*pages) : Result<void>(fail(pages.error()));
    if (collected_ && round_ > warm_up) {
        samples_.nanoseconds.push_back(time.count());
        samples_.pages.push_back(static_cast<double>(pages->size()));
    }
    if (pages) {
        storage_ = std::move(*pages).recycle();
    }
    if (!collected_ || round_ == warm_up + case_.rounds) {
        machine_->stop();
    }
}

/// That the collect gave what the guest wrote in this round.
Result<void> CollectCost::check(const Pages& pages) const {
    const auto wrong = [&](std::string cause) {
        return fail(
            {0,
             fmt::format("measure the collect by {} in {}", name(case_.track), bytes(case_.memory)),
             std::move(cause),
             {}});
    };
    if (pages.everything()) {
        return wrong("the kernel lost entries, so every page counts as dirty");
    }
    const std::uint64_t first = first_page(*machine_);
    std::vector<std::uint64_t> written;
    for (guest::WriterRound round(plan_, round_); round.more();) {
        const std::uint64_t page = round.next().page;
        written.push_back(first + page);
        written.push_back(first + plan_.pages + page / ledger_per_page);
    }
    std::ranges::sort(written);
    const auto repeated = std::ranges::unique(written);
    written.erase(repeated.begin(), repeated.end());
    for (const std::uint64_t page : written) {
        if (!contains(pages.set(), page)) {
            return wrong(
                fmt::format("page {} was written in round {} and is not reported", page, round_));
        }
    }
    if (pages.size() > written.size() + allowance) {
        return wrong(fmt::format("{} were written in round {} and {} are reported",
                                 counted(written.size(), "page"), round_, grouped(pages.size())));
    }
    return {};
}

Result<CollectSamples> CollectCost::run(Interruption& interruption) {
    if (Result<void> started = machine_->start(); !started) {
        return fail(std::move(started.error()));
    }
    const Running running(*machine_, interruption);
    const std::vector<machine::End> ends = machine_->wait_done();
    if (!collected_) {
        return fail(collected_.error());
    }
    if (Result<void> well = stopped(*machine_, "writer", ends); !well) {
        return fail(std::move(well.error()));
    }
    return std::move(samples_);
}

}  // namespace dirtyring::cli
