// SPDX-License-Identifier: MIT
//
// No page is lost: guests write numbers to pages that they choose, and after each collect all of
// guest memory is compared with what it was.
#include <chrono>
#include <future>
#include <iostream>
#include <memory>
#include <vector>

#include "arm_fixture.hpp"
#include "dirtyring/source/bitmap_source.hpp"
#include "oracle.hpp"

namespace dirtyring::arm64 {
namespace {

enum class Way { ring, ring_with_bitmap, bitmap, manual_bitmap };

struct TrackedRun {
    const char* name;
    Way way;
    std::uint32_t vcpus;
    std::uint32_t entries = 0;  // of each ring
    bool drained = false;       // another thread harvests and resets all the time
};

constexpr std::uint64_t rounds = 10;

class ArmTrackedTest : public ArmTest, public ::testing::WithParamInterface<TrackedRun> {
  protected:
    // One round on every vCPU, each on a thread of its own; gives how many writes each has made.
    static std::uint64_t run_round(ArmVm& vm, RingSource* rings) {
        std::vector<std::future<std::uint64_t>> running;
        for (std::uint32_t vcpu = 0; vcpu < GetParam().vcpus; ++vcpu) {
            running.push_back(std::async(std::launch::async,
                                         [&vm, rings, vcpu] { return vm.run_round(vcpu, rings); }));
        }
        std::uint64_t writes = 0;
        for (std::future<std::uint64_t>& vcpu : running) {
            while (GetParam().drained &&
                   vcpu.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
                must(rings->drain());
            }
            writes += vcpu.get();
        }
        return writes;
    }
};

TEST_P(ArmTrackedTest, EveryChangedPageIsReported) {
    const TrackedRun& test = GetParam();
    const Config config{.vcpus = test.vcpus,
                        .ring_entries = test.entries,
                        .ring_bitmap = test.way == Way::ring_with_bitmap,
                        .manual_protect = test.way == Way::manual_bitmap};
    ArmVm vm(system(), config);
    vm.make_vcpus();
    std::unique_ptr<Source> source;
    RingSource* rings = nullptr;
    if (test.entries != 0) {
        auto made = std::make_unique<RingSource>(
            vm.vm().fd(), vm.memory(), config.ring_bitmap ? RingBackup::bitmap : RingBackup::none);
        add_rings(*made, vm, test.vcpus);
        rings = made.get();
        source = std::move(made);
    } else {
        source = std::make_unique<BitmapSource>(
            vm.vm().fd(), vm.memory(),
            config.manual_protect ? BitmapMode::manual : BitmapMode::automatic);
    }

    Oracle oracle(vm.memory());
    std::uint64_t writes = 0;
    std::uint64_t lost = 0;
    DirtySet storage;
    for (std::uint64_t round = 0; round < rounds; ++round) {
        writes = run_round(vm, rings);
        Pages pages = must(source->collect(std::move(storage)));
        EXPECT_FALSE(pages.everything());
        lost += oracle.lost(pages);
        storage = std::move(pages).recycle();
    }
    std::cout << "page writes checked: " << writes << " in " << rounds << " rounds, "
              << oracle.changed() << " changed pages, " << lost << " lost\n";
    EXPECT_EQ(lost, 0U);
    EXPECT_EQ(writes, rounds * config.writes * test.vcpus);
    // 2,000 writes at random go to some 880 of the 1,024 pages.
    EXPECT_GT(oracle.changed(), rounds * 800);
    EXPECT_EQ(must(source->collect({})).size(), 0U) << "nothing has been written since";
    if (rings != nullptr && !test.drained) {
        EXPECT_GE(rings->statistics(0).full_exits, rounds) << "the rings were to fill";
    }
}

INSTANTIATE_TEST_SUITE_P(
    On, ArmTrackedTest,
    ::testing::Values(TrackedRun{"RingsOf256OneVcpu", Way::ring, 1, 256},
                      TrackedRun{"RingsOf256TwoVcpus", Way::ring, 2, 256},
                      TrackedRun{"RingsOf1024TwoVcpusDrained", Way::ring, 2, 1024, true},
                      TrackedRun{"RingsWithBitmapTwoVcpus", Way::ring_with_bitmap, 2, 256},
                      TrackedRun{"BitmapTwoVcpus", Way::bitmap, 2},
                      TrackedRun{"ManualBitmapTwoVcpus", Way::manual_bitmap, 2}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace dirtyring::arm64
