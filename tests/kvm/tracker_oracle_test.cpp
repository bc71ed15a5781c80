// SPDX-License-Identifier: MIT
//
// No page is lost to any consumer of a Tracker: guests on one to four vCPUs, over every source,
// with consumers of different pace, one of which aborts at random, slots and vCPUs that come and
// go, a host that writes, and signals. tools/soak runs the same with parameters at random and for
// as long as one likes.
#include <iostream>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "guests/random.hpp"
#include "machine_fixture.hpp"
#include "soak/run.hpp"

namespace dirtyring {
namespace {

using soak::Case;
using soak::Outcome;

struct Named {
    const char* name;
    Case what;
};

void PrintTo(const Named& named, std::ostream* out) {
    *out << named.name;
}

class TrackerOracle : public MachineTest, public ::testing::WithParamInterface<Named> {
  protected:
    void SetUp() override {
        MachineTest::SetUp();
        if (IsSkipped()) {
            return;
        }
        const HostFacilities host = must(probe(system()));
        const TrackingSupport& support = host.tracking[static_cast<std::size_t>(what().way)];
        if (!support.usable) {
            GTEST_SKIP() << support.why_not;
        }
        if (what().entries != 0 && what().entries < host.least_ring) {
            GTEST_SKIP() << "this kernel's smallest ring has " << host.least_ring << " entries";
        }
    }

    static const Case& what() { return GetParam().what; }
};

TEST_P(TrackerOracle, EveryChangedPageIsInAnEpochOfEveryConsumer) {
    std::cout << "seed " << what().seed << ": " << soak::describe(what()) << "\n";
    const Outcome outcome = soak::run(what(), DIRTYRING_GUESTS);
    std::cout << soak::describe(outcome) << "\n";
    EXPECT_EQ(outcome.seen.lost, 0U);
    for (const std::string& loss : outcome.seen.losses) {
        ADD_FAILURE() << loss;
    }
    EXPECT_GE(outcome.writes, outcome.wanted);
    EXPECT_GT(outcome.seen.changed, outcome.checks) << "the guest has hardly changed anything";
    EXPECT_EQ(outcome.short_resets, 0U) << "a signal got through to KVM_RESET_DIRTY_RINGS";
    if (what().privilege == 3) {
        // Ring-3 code keeps within the soft limit, so nothing may be lost on the way either.
        EXPECT_EQ(outcome.seen.everything, 0U);
    }
}

Case on_ring(std::uint32_t entries, std::uint32_t vcpus, bool reaper) {
    return {.way = Tracking::ring,
            .entries = entries,
            .vcpus = vcpus,
            .reaper = reaper,
            .host_writes = true,
            .slots = true,
            .visitors = true,
            .signals = true};
}

Case on_bitmap(Tracking way, std::uint32_t vcpus) {
    Case made = on_ring(0, vcpus, false);
    made.way = way;
    return made;
}

Named named(const char* name, Case made) {
    for (const char* letter = name; *letter != 0; ++letter) {
        made.seed = guest::mix64(made.seed + static_cast<unsigned char>(*letter));
    }
    return {name, made};
}

Named writer(const char* name, Case made, const char* pattern, std::uint64_t writes) {
    made.params = {{"pattern", pattern}, {"working_set", "16M"}, {"writes", "5000"}};
    made.step = 40000;
    made.writes = writes;
    return named(name, made);
}

Named other(const char* name, Case made, const char* guest,
            std::vector<std::pair<std::string, std::string>> params, std::uint64_t writes) {
    made.guest = guest;
    made.params = std::move(params);
    made.writes = writes;
    return named(name, made);
}

std::string name_of(const ::testing::TestParamInfo<Named>& info) {
    return info.param.name;
}

constexpr std::uint64_t million = 1000000;

INSTANTIATE_TEST_SUITE_P(
    Rings, TrackerOracle,
    ::testing::Values(
        writer("Of256TwoVcpus", on_ring(256, 2, true), "zipf", million),
        writer("Of1024OneVcpu", on_ring(1024, 1, true), "uniform", million),
        writer("Of1024FourVcpusUnreaped", on_ring(1024, 4, false), "uniform", 2 * million),
        writer("Of4096TwoVcpus", on_ring(4096, 2, true), "sequential", 3 * million),
        writer("Of16384ThreeVcpus", on_ring(16384, 3, true), "stride", 3 * million),
        writer("Of65536OneVcpuUnreaped", on_ring(65536, 1, false), "uniform", 3 * million),
        writer("Of65536FourVcpus", on_ring(65536, 4, true), "zipf", 3 * million)),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Bitmaps, TrackerOracle,
    ::testing::Values(writer("Automatic", on_bitmap(Tracking::bitmap, 2), "uniform", 2 * million),
                      writer("Manual", on_bitmap(Tracking::manual_bitmap, 4), "zipf", 2 * million)),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Guests, TrackerOracle,
    ::testing::Values(other("HashTable", on_ring(2048, 2, true), "hash_table",
                            {{"keys", "100000"}, {"operations", "10000"}}, million / 2),
                      other("MergeSort", on_ring(8192, 2, true), "merge_sort",
                            {{"records", "500000"}, {"run", "16K"}}, million / 10),
                      other("LogStore", on_ring(1024, 1, false), "log_store",
                            {{"keys", "10000"}, {"operations", "10000"}}, million / 2),
                      other("Spmv", on_bitmap(Tracking::manual_bitmap, 2), "spmv",
                            {{"rows", "100000"}}, million / 50)),
    name_of);

Named flood(const char* name, Case made) {
    made.privilege = 0;
    return other(name, made, "ring0_flood", {{"working_set", "14M"}}, million / 8);
}

// On kvm_pvm these overrun their rings: whatever the kernel loses is then part of "everything".
INSTANTIATE_TEST_SUITE_P(Overruns, TrackerOracle,
                         ::testing::Values(flood("Of1024", on_ring(1024, 2, false)),
                                           flood("Of4096Reaped", on_ring(4096, 2, true))),
                         name_of);

}  // namespace
}  // namespace dirtyring
