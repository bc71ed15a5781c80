// SPDX-License-Identifier: MIT
//
// An open-addressing hash table under a Zipf load, shared by all vCPUs without locks.
//
// A slot's value holds how often its key was updated and a seal over key and count, so every look
// at a slot checks it. After each round every occupied slot must be where a lookup finds it, and
// the counts must add up to all the updates ever made.
#include <atomic>
#include <bit>

#include "random.hpp"
#include "runtime.hpp"

namespace dirtyring::guest {
namespace {

constexpr std::array parameters = {
    Parameter{"keys", "1000000", "number of distinct keys", 1, std::uint64_t{1} << 31},
    Parameter{"operations", "1000000", "lookups and updates in a round, by all vCPUs together", 1,
              std::uint64_t{1} << 40},
    Parameter{"read_share", "50", "percent of the operations that are lookups", 0, 100},
    Parameter{"seed", "1", "start of the random numbers", 0, UINT64_MAX},
};

// The key is 0 while the slot is free, and never changes afterwards. The value is 0 until the first
// update.
struct Slot {
    std::uint64_t key;
    std::uint64_t value;
};
static_assert(sizeof(Slot) == 16);

constinit Slot* table = nullptr;
constinit std::uint64_t mask = 0;
constinit std::uint64_t keys = 0;
constinit std::uint64_t operations = 0;
constinit std::uint64_t read_share = 0;
constinit std::uint64_t seed = 0;

// All updates ever made; each vCPU writes its own.
struct alignas(64) Tally {
    std::uint64_t updates;
};
constinit std::array<Tally, max_vcpus> tallies{};

// SAFETY (both): the words lie in the table, naturally aligned, and are accessed only through
// atomic_ref while more than one vCPU is at work.
std::atomic_ref<std::uint64_t> key_of(Slot& slot) {
    return std::atomic_ref(slot.key);
}
std::atomic_ref<std::uint64_t> value_of(Slot& slot) {
    return std::atomic_ref(slot.value);
}

// The upper half is the count, the lower half the seal. Counts wrap at 2^32.
constexpr std::uint64_t sealed(std::uint64_t key, std::uint64_t count) {
    return count << 32 | (mix64(key << 32 ^ count) & UINT32_MAX);
}

std::uint64_t checked_count(std::uint64_t key, std::uint64_t value) {
    const std::uint64_t count = value >> 32;
    if (value != sealed(key, count)) {
        fail("the value of key ", key, " does not bear its seal");
    }
    return count;
}

// The slot that holds `key`, or the free one where it belongs.
Slot& find(std::uint64_t key) {
    std::uint64_t place = mix64(key ^ seed) & mask;
    for (std::uint64_t steps = 0; steps <= mask; ++steps) {
        Slot& slot = table[place];
        const std::uint64_t found = key_of(slot).load(std::memory_order_relaxed);
        if (found == key || found == 0) {
            return slot;
        }
        place = (place + 1) & mask;
    }
    fail("no slot for key ", key, ": the table is full, which it can never be");
}

void look_up(std::uint64_t key) {
    Slot& slot = find(key);
    // A slot that was free may have been taken for another key since.
    if (key_of(slot).load(std::memory_order_relaxed) != key) {
        return;
    }
    const std::uint64_t value = value_of(slot).load(std::memory_order_relaxed);
    if (value != 0) {
        checked_count(key, value);
    }
}

// The slot that holds `key`, which takes a free one if it has none yet.
Slot& find_or_insert(std::uint64_t key) {
    for (;;) {
        Slot& slot = find(key);
        std::uint64_t found = key_of(slot).load(std::memory_order_relaxed);
        // Another vCPU may take the free slot first, for this key or for another.
        if (found == key || (found == 0 && key_of(slot).compare_exchange_strong(
                                               found, key, std::memory_order_relaxed))) {
            return slot;
        }
    }
}

void update(std::uint64_t key) {
    Slot& slot = find_or_insert(key);
    std::uint64_t value = value_of(slot).load(std::memory_order_relaxed);
    std::uint64_t next = 0;
    do {
        const std::uint64_t count = value == 0 ? 0 : checked_count(key, value);
        next = sealed(key, (count + 1) & UINT32_MAX);
    } while (!value_of(slot).compare_exchange_weak(value, next, std::memory_order_relaxed));
}

void check(std::uint32_t vcpu) {
    const Slice share = slice(mask + 1, vcpu, vcpu_count());
    std::uint64_t counted = 0;
    for (std::uint64_t i = share.begin; i < share.end; ++i) {
        const Slot& slot = table[i];
        if (slot.key == 0) {
            continue;
        }
        if (slot.key > keys || &find(slot.key) != &slot) {
            fail("slot ", i, " holds key ", slot.key, ", which does not belong there");
        }
        counted += checked_count(slot.key, slot.value);
    }
    const Sums sums = sum_over_vcpus(vcpu, {counted, tallies[vcpu].updates});
    if ((sums[0] & UINT32_MAX) != (sums[1] & UINT32_MAX)) {
        fail("the counts add up to ", sums[0], " updates, but ", sums[1], " were made");
    }
}

void plan() {
    keys = number("keys");
    operations = number("operations");
    read_share = number("read_share");
    seed = number("seed");
    const std::uint64_t slots = std::bit_ceil(keys + keys / 3 + 1);
    mask = slots - 1;
    table = allocate<Slot>(slots);
}

std::uint64_t round(std::uint32_t vcpu, std::uint64_t round) {
    Random random(seed, vcpu, round);
    const Zipf zipf(keys);
    const Slice share = slice(operations, vcpu, vcpu_count());
    std::uint64_t updates = 0;
    for (std::uint64_t i = share.begin; i < share.end; ++i) {
        const std::uint64_t key = 1 + zipf.draw(random);
        if (random.below(100) < read_share) {
            look_up(key);
        } else {
            update(key);
            ++updates;
        }
    }
    tallies[vcpu].updates += updates;
    barrier();
    check(vcpu);
    return updates;
}

}  // namespace

constinit const Program program = {
    .name = "hash_table", .parameters = parameters, .plan = plan, .round = round};

}  // namespace dirtyring::guest
