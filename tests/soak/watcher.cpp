// SPDX-License-Identifier: MIT
#include "watcher.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "must.hpp"

namespace dirtyring::soak {

namespace {

// How many pages of a slot another map has too: with the same id, over the same memory.
std::uint64_t common_pages(const MemorySlot& slot, const MemoryMap& other) {
    for (const MemorySlot& candidate : other.slots()) {
        if (candidate.slot == slot.slot && candidate.host == slot.host) {
            return std::min(candidate.pages(), slot.pages());
        }
    }
    return 0;
}

}  // namespace

void Sightings::add(const Sightings& more) {
    epochs += more.epochs;
    aborted += more.aborted;
    everything += more.everything;
    named += more.named;
    changed += more.changed;
    lost += more.lost;
    losses.insert(losses.end(), more.losses.begin(), more.losses.end());
}

Watcher::Watcher(const Habits& habits, Tracker& tracker, const HostMemory& memory,
                 std::uint64_t seed)
    : habits_(habits),
      memory_(memory),
      slots_(tracker.memory()),
      random_(seed),
      consumer_(tracker.add_consumer()),
      copy_(memory.pages() * page_size),
      known_(memory.pages()) {
    for (const MemorySlot& slot : slots_.slots()) {
        for (std::uint64_t page = 0; page < slot.pages(); ++page) {
            copy(memory_.number(slot.host) + page, slot.host + page * page_size, false);
        }
    }
}

void Watcher::check(AllVcpusStopped stopped) {
    // Both ways of collecting: a consistent state is one for whoever asks.
    Result<Epoch> epoch = random_.below(2) == 0 ? consumer_.collect(stopped) : consumer_.collect();
    take(must(std::move(epoch)), true);
}

void Watcher::follow() {
    take(must(consumer_.collect()), false);
}

void Watcher::slots_changed(const MemoryMap& slots) {
    const MemoryMap before = std::exchange(slots_, slots);
    for (const MemorySlot& slot : slots_.slots()) {
        for (std::uint64_t page = common_pages(slot, before); page < slot.pages(); ++page) {
            known_[memory_.number(slot.host) + page] = false;
        }
    }
}

void Watcher::take(Epoch epoch, bool still) {
    const DirtySet& set = epoch.pages().set();
    for (std::size_t place = 0; place < set.memory().slots().size(); ++place) {
        const MemorySlot& slot = set.memory().slots()[place];
        const SlotPages pages = set.pages(place);
        for (std::uint64_t page = 0; page < slot.pages(); ++page) {
            const std::uint64_t number = memory_.number(slot.host) + page;
            std::byte* const now = slot.host + page * page_size;
            const bool named = pages.contains(page);
            const bool changed = still && known_[number] && differs(number, now);
            seen_.named += named ? 1U : 0U;
            seen_.changed += changed ? 1U : 0U;
            if (!named && (changed || !known_[number])) {
                note_loss(slot, page, epoch.sequence(), known_[number]);
            }
            if (named || changed || !known_[number]) {
                copy(number, now, still);
            }
        }
    }
    ++seen_.epochs;
    seen_.everything += epoch.pages().everything() ? 1U : 0U;
    open_.push_back(std::move(epoch));
    while (open_.size() > habits_.most_open) {
        end_one();
    }
}

void Watcher::end_one() {
    const auto chosen = open_.begin() + static_cast<std::ptrdiff_t>(random_.below(open_.size()));
    if (random_.below(100) >= habits_.abort_percent) {
        chosen->commit();
        open_.erase(chosen);
        return;
    }
    ++seen_.aborted;
    chosen->pages().for_each_run([&](const PageRun& run) {
        // Pages of slots that have gone since are nobody's affair any longer.
        const std::uint64_t end = std::min(run.first + run.count, common_pages(*run.slot, slots_));
        for (std::uint64_t page = run.first; page < end; ++page) {
            known_[memory_.number(run.slot->host) + page] = false;
        }
    });
    if (random_.below(2) == 0) {
        chosen->abort();
    }
    open_.erase(chosen);  // which aborts it as well
}

void Watcher::copy(std::uint64_t number, std::byte* page, bool still) {
    std::byte* const to = copy_.data() + number * page_size;
    known_[number] = true;
    if (still) {
        std::memcpy(to, page, page_size);
        return;
    }
    for (std::size_t i = 0; i < words_a_page; ++i) {
        const std::uint64_t word = shared_word(page, i).load(std::memory_order_relaxed);
        std::memcpy(to + i * sizeof word, &word, sizeof word);
    }
}

bool Watcher::differs(std::uint64_t number, const std::byte* page) const {
    return std::memcmp(copy_.data() + number * page_size, page, page_size) != 0;
}

void Watcher::note_loss(const MemorySlot& slot, std::uint64_t page, std::uint64_t epoch,
                        bool known) {
    constexpr std::size_t most_told = 5;
    ++seen_.lost;
    if (seen_.losses.size() < most_told) {
        seen_.losses.push_back("page " + std::to_string(page) + " of slot " +
                               std::to_string(slot.slot) + " is not in epoch " +
                               std::to_string(epoch) + " of the consumer '" + habits_.name +
                               (known ? "', though it has changed"
                                      : "', though an aborted epoch or a new slot has left it "
                                        "dirty"));
    }
}

}  // namespace dirtyring::soak
