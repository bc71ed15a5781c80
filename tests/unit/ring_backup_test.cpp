// SPDX-License-Identifier: MIT
//
// RingSource over rings with a bitmap beside them: what KVM writes while no vCPU runs.
#include <gtest/gtest.h>

#include <cerrno>
#include <string>

#include "allocations.hpp"
#include "dirtyring/source/ring_source.hpp"
#include "ring_vm.hpp"

namespace dirtyring {
namespace {

using fake::Collected;
using fake::PageList;
using fake::RingVm;

const PageList nothing;

// The second slot is not a multiple of 64 pages.
constexpr std::uint32_t second = 3;

fake::Config config(bool with_bitmap) {
    return {.vcpus = 2, .with_bitmap = with_bitmap, .slots = {{0, 1024}, {second, 1000}}};
}

class RingBackupTest : public ::testing::Test {
  protected:
    RingVm vm_{config(true)};
};

TEST_F(RingBackupTest, CollectGivesWhatVcpusWroteAndWhatNoneWrote) {
    vm_.store(0, 0, 5);
    vm_.store(1, second, 6);
    vm_.store_without_vcpu(0, 700);
    vm_.store_without_vcpu(second, 999);
    const Collected collected = vm_.collect();
    EXPECT_EQ(collected.pages, (PageList{{0, 5}, {0, 700}, {second, 6}, {second, 999}}));
    EXPECT_FALSE(collected.everything);
    EXPECT_EQ(vm_.lost(), nothing);
    EXPECT_EQ(vm_.unarmed(), nothing);
    EXPECT_EQ(vm_.collect().pages, nothing);
}

TEST_F(RingBackupTest, APageWrittenBothWaysComesOnce) {
    vm_.store(0, 0, 5);
    vm_.store_without_vcpu(0, 5);
    EXPECT_EQ(vm_.collect().pages, (PageList{{0, 5}}));
    EXPECT_EQ(vm_.unarmed(), nothing);
    EXPECT_EQ(vm_.collect().pages, nothing);
}

TEST_F(RingBackupTest, TheBitmapIsReadAfterTheRings) {
    vm_.store(0, 0, 5);
    vm_.kernel.during_reset(1, [this] { vm_.store_without_vcpu(second, 7); });
    EXPECT_EQ(vm_.collect().pages, (PageList{{0, 5}, {second, 7}}));
    EXPECT_EQ(vm_.lost(), nothing);
}

// It costs the size of memory, and what it has waits.
TEST_F(RingBackupTest, DrainAndRingFullLeaveTheBitmapToTheCollect) {
    vm_.store_without_vcpu(0, 900);
    const unsigned before = vm_.faults.calls(faulty::Call::ioctl);
    must(vm_.source.drain());
    must(vm_.source.ring_full(0));
    EXPECT_EQ(vm_.faults.calls(faulty::Call::ioctl), before);
    EXPECT_EQ(vm_.collect().pages, (PageList{{0, 900}}));
}

TEST_F(RingBackupTest, AFailedReadingLosesNothingForTheNextCollect) {
    // One KVM_RESET_DIRTY_RINGS, then a KVM_GET_DIRTY_LOG for each slot.
    for (const unsigned nth : {1U, 2U}) {
        SCOPED_TRACE(nth);
        vm_.store(0, 0, 5);
        vm_.store_without_vcpu(0, 700);
        vm_.store_without_vcpu(second, 999);
        vm_.faults.fail_next(faulty::Call::ioctl, EFAULT, nth);
        const Result<Pages> failed = vm_.source.collect({});
        ASSERT_FALSE(failed);
        EXPECT_EQ(failed.error().code, EFAULT);
        EXPECT_EQ(failed.error().operation,
                  "KVM_GET_DIRTY_LOG(slot " + std::to_string(nth == 1 ? 0 : second) + ")");
        const Collected collected = vm_.collect();
        EXPECT_EQ(collected.pages, (PageList{{0, 5}, {0, 700}, {second, 999}}));
        EXPECT_FALSE(collected.everything);
        EXPECT_EQ(vm_.lost(), nothing);
    }
}

// Re-arming all memory empties the bitmap: its pages are in the answer, which is all.
TEST_F(RingBackupTest, AfterALossTheAnswerIsEverythingAndTheBitmapGoesOn) {
    for (std::uint64_t page = 0; page < 10; ++page) {
        vm_.store(0, 0, page);
    }
    vm_.store_without_vcpu(second, 999);
    vm_.kernel.kill_after(0);
    EXPECT_TRUE(vm_.collect().everything);
    EXPECT_EQ(vm_.lost(), nothing);
    vm_.store(0, 0, 20);
    vm_.store_without_vcpu(second, 998);
    const Collected next = vm_.collect();
    EXPECT_EQ(next.pages, (PageList{{0, 20}, {second, 998}}));
    EXPECT_FALSE(next.everything);
}

// The toggle that arms them empties the bitmap.
TEST_F(RingBackupTest, ArmingSuspectsAgainLosesNothingOfTheBitmap) {
    vm_.store(0, second, 5);
    vm_.store(0, second, 6);
    vm_.kernel.kill_after(1);
    vm_.collect();
    vm_.store_without_vcpu(second, 999);
    ASSERT_TRUE(vm_.source.rearm_suspects(AllVcpusStopped()));
    EXPECT_EQ(vm_.collect().pages, (PageList{{second, 999}}));
    EXPECT_EQ(vm_.lost(), nothing);
}

TEST_F(RingBackupTest, WithoutSuspectsThereIsNoNeedToReadTheBitmap) {
    vm_.store_without_vcpu(second, 999);
    const unsigned before = vm_.faults.calls(faulty::Call::ioctl);
    ASSERT_TRUE(vm_.source.rearm_suspects(AllVcpusStopped()));
    EXPECT_EQ(vm_.faults.calls(faulty::Call::ioctl), before);
    EXPECT_EQ(vm_.collect().pages, (PageList{{second, 999}}));
}

TEST_F(RingBackupTest, WhereTheBitmapCannotBeReadSuspectsStayAsTheyAre) {
    vm_.store(0, second, 5);
    vm_.store(0, second, 6);
    vm_.kernel.kill_after(1);
    vm_.collect();
    vm_.store_without_vcpu(second, 999);
    vm_.faults.fail_next(faulty::Call::ioctl, EFAULT);
    const Result<void> failed = vm_.source.rearm_suspects(AllVcpusStopped());
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, EFAULT);
    EXPECT_EQ(vm_.kernel.regions_set(), 0U);
    EXPECT_EQ(vm_.source.statistics().suspects, 2U);
    const Collected next = vm_.collect();
    EXPECT_EQ(next.pages, (PageList{{second, 5}, {second, 6}, {second, 999}}));
    EXPECT_FALSE(next.everything);
    EXPECT_EQ(vm_.lost(), nothing);
}

TEST_F(RingBackupTest, NothingIsAllocatedFromTheSecondCollectOn) {
    Pages pages = must(vm_.source.collect({}));
    for (std::uint64_t round = 0; round < 3; ++round) {
        vm_.store(0, 0, round);
        vm_.store_without_vcpu(second, 999);
        DirtySet storage = std::move(pages).recycle();
        const std::uint64_t before = allocations();
        Result<Pages> collected = vm_.source.collect(std::move(storage));
        EXPECT_EQ(allocations() - before, 0U) << "round " << round;
        pages = must(std::move(collected));
        EXPECT_EQ(pages.size(), 2U);
    }
}

// What the bitmap is for: the rings alone do not know of such a write.
TEST(RingBackupNone, WhatNoVcpuWroteIsNotReported) {
    RingVm vm(config(false));
    vm.store(0, 0, 5);
    vm.store_without_vcpu(second, 999);
    EXPECT_EQ(vm.collect().pages, (PageList{{0, 5}}));
    EXPECT_EQ(vm.lost(), (PageList{{second, 999}}));
}

TEST(RingBackupNone, ABitmapThatTheVmDoesNotHaveIsAnError) {
    const RingVm vm(config(false));
    RingSource source(fake::Kernel::fd(), vm.kernel.memory(), RingBackup::bitmap);
    const Result<Pages> refused = source.collect({});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ENXIO);
    EXPECT_NE(refused.error().message().find("enable_dirty_ring_bitmap"), std::string::npos)
        << refused.error().message();
}

}  // namespace
}  // namespace dirtyring
