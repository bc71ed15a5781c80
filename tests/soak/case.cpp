// SPDX-License-Identifier: MIT
#include "case.hpp"

#include <algorithm>
#include <array>
#include <bit>

#include "guests/random.hpp"

namespace dirtyring::soak {

namespace {

using guest::Random;

template <std::size_t n>
const char* one_of(Random& random, const std::array<const char*, n>& choices) {
    return choices[random.below(n)];
}

bool chance(Random& random, std::uint64_t percent) {
    return random.below(100) < percent;
}

std::string between(Random& random, std::uint64_t least, std::uint64_t most) {
    return std::to_string(least + random.below(most - least + 1));
}

void choose_writer(Case& made, Random& random) {
    static constexpr std::array patterns = {"sequential", "uniform", "zipf", "stride"};
    made.params = {{"pattern", one_of(random, patterns)},
                   {"working_set", std::to_string(256U << random.below(7)) + "K"},
                   {"writes", between(random, 1000, 10000)},
                   {"read_share", between(random, 0, 50)},
                   {"seed", between(random, 1, 1000000)}};
}

// Each in the 20 MiB that Run leaves to guests, and for some ten seconds.
void choose_guest(Case& made, Random& random) {
    const std::string seed = between(random, 1, 1000000);
    const std::uint64_t share = 1 + random.below(4);
    switch (random.below(10)) {
        case 0:
            made.guest = "hash_table";
            made.params = {{"keys", between(random, 10000, 200000)},
                           {"operations", between(random, 2000, 40000)},
                           {"seed", seed}};
            made.writes = share * 500000;
            return;
        case 1:
            made.guest = "merge_sort";
            made.params = {{"records", between(random, 50000, 500000)},
                           {"run", between(random, 4000, 64000)},
                           {"ways", between(random, 2, 8)},
                           {"seed", seed}};
            made.writes = share * 50000;
            return;
        case 2:
            made.guest = "spmv";
            made.params = {{"rows", between(random, 20000, 100000)}, {"seed", seed}};
            made.writes = share * 10000;
            return;
        case 3:
            made.guest = "log_store";
            made.params = {{"keys", between(random, 2000, 20000)},
                           {"operations", between(random, 2000, 20000)},
                           {"seed", seed}};
            made.writes = share * 500000;
            return;
        case 4:
            made.guest = "ring0_flood";
            made.privilege = 0;
            made.params = {{"working_set", between(random, 1, 14) + "M"}};
            made.writes = share * 50000;
            return;
        default:
            choose_writer(made, random);
            made.writes = share * 1000000;
    }
}

std::vector<Tracking> usable(const HostFacilities& host) {
    std::vector<Tracking> ways;
    for (const TrackingSupport& support : host.tracking) {
        if (support.usable) {
            ways.push_back(support.way);
        }
    }
    return ways;
}

}  // namespace

std::string describe(const Case& what) {
    std::string text = name(what.way);
    if (what.entries != 0) {
        text += " of " + std::to_string(what.entries);
    }
    text += ", " + std::to_string(what.vcpus) + (what.vcpus == 1 ? " vCPU, " : " vCPUs, ");
    text += what.guest;
    for (const auto& [key, value] : what.params) {
        text += " " + key + "=" + value;
    }
    const std::pair<bool, const char*> also[] = {
        {what.privilege == 0, ", in ring 0"},   {what.reaper, ", reaper"},
        {what.host_writes, ", host writes"},    {what.slots, ", slots change"},
        {what.visitors, ", vCPUs come and go"}, {what.signals, ", signals"}};
    for (const auto& [there, words] : also) {
        text += there ? words : "";
    }
    return text + ", a check each " + std::to_string(what.step) + " page writes";
}

Case random_case(std::uint64_t seed, const HostFacilities& host) {
    Random random(seed);
    Case made;
    made.seed = seed;
    const std::vector<Tracking> ways = usable(host);
    // Rings twice as often as all others together: there is more to them.
    made.way = host.least_ring != 0 && chance(random, 66) ? Tracking::ring
                                                          : ways.at(random.below(ways.size()));
    const bool rings = made.way == Tracking::ring || made.way == Tracking::ring_with_bitmap;
    if (rings) {
        const auto sizes = static_cast<std::uint64_t>(std::countr_zero(host.vm.largest_ring()) -
                                                      std::countr_zero(host.least_ring) + 1);
        made.entries = host.least_ring << random.below(sizes);
    }
    made.vcpus = 1 + static_cast<std::uint32_t>(random.below(4));
    choose_guest(made, random);
    made.reaper = rings && chance(random, 60);
    made.host_writes = chance(random, 70);
    made.slots = chance(random, 60);
    made.visitors = chance(random, 40);
    made.signals = chance(random, 50);
    made.step = std::min(5000 + random.below(50000), made.writes / 10);
    return made;
}

}  // namespace dirtyring::soak
