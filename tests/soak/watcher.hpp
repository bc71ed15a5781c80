// SPDX-License-Identifier: MIT
//
// A consumer, and the oracle that watches over it: a copy of all memory, which is kept equal to
// memory by copying the pages that the consumer's epochs name, and none else. A page that differs
// and is not named is a lost page.
//
// What must be named in the next epoch whatever it holds is a page that the copy does not have:
// one of an epoch that was aborted, or of a slot that is new.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dirtyring/tracker.hpp"
#include "guests/random.hpp"
#include "host_memory.hpp"

namespace dirtyring::soak {

struct Habits {
    const char* name;
    std::uint64_t every = 1;          ///< collects at each check, at each second ...
    std::uint64_t abort_percent = 0;  ///< of its epochs
    std::size_t most_open = 0;        ///< epochs that it keeps open from one collect to the next
};

/// What has been seen.
struct Sightings {
    std::uint64_t epochs = 0;
    std::uint64_t aborted = 0;
    std::uint64_t everything = 0;  ///< epochs that said so
    std::uint64_t named = 0;       ///< pages in all epochs
    std::uint64_t changed = 0;     ///< pages found changed while all stood still
    std::uint64_t lost = 0;
    std::vector<std::string> losses;  ///< the first of them

    void add(const Sightings& more);
};

/// One thread at a time.
class Watcher {
  public:
    /// Registers a consumer and then takes the whole copy, while all goes on.
    Watcher(const Habits& habits, Tracker& tracker, const HostMemory& memory, std::uint64_t seed);

    [[nodiscard]] const Habits& habits() const { return habits_; }
    [[nodiscard]] const Sightings& seen() const { return seen_; }

    /// Collects while nobody writes, from before this until it returns; compares all memory.
    void check(AllVcpusStopped stopped);
    /// Collects while all goes on. What it copies may be newer than the epoch; that nothing is
    /// missing shows at the next check.
    void follow();
    /// The slots are others from now on.
    void slots_changed(const MemoryMap& slots);

  private:
    void take(Epoch epoch, bool still);
    void end_one();
    /// What a page's content is now; `still`: nobody writes.
    void copy(std::uint64_t number, std::byte* page, bool still);
    [[nodiscard]] bool differs(std::uint64_t number, const std::byte* page) const;
    void note_loss(const MemorySlot& slot, std::uint64_t page, std::uint64_t epoch, bool known);

    Habits habits_;
    const HostMemory& memory_;
    MemoryMap slots_;
    guest::Random random_;
    Consumer consumer_;
    std::vector<Epoch> open_;
    // By page number.
    std::vector<std::byte> copy_;
    std::vector<bool> known_;
    Sightings seen_;
};

}  // namespace dirtyring::soak
