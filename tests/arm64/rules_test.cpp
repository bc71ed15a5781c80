// SPDX-License-Identifier: MIT
//
// What the library relies on arm64's KVM for, and says of it.
#include <cerrno>

#include "arm_fixture.hpp"
#include "dirtyring/probe.hpp"

namespace dirtyring::arm64 {
namespace {

using ArmRulesTest = ArmTest;

TEST_F(ArmRulesTest, EveryWayOfTrackingIsUsableAndTheRingWithBitmapRecommended) {
    const HostFacilities host = must(probe(system()));
    for (const TrackingSupport& support : host.tracking) {
        EXPECT_TRUE(support.usable) << name(support.way) << ": " << support.why_not;
    }
    EXPECT_EQ(host.recommended, Tracking::ring_with_bitmap);
    EXPECT_EQ(host.least_ring, 256U);
    EXPECT_EQ(host.vm.ring_bytes, 0U) << "arm64 has rings by acquire and release only";
    EXPECT_GE(host.vm.largest_ring(), 65'536U);
}

void expect_bitmap_refused(const kvm::Vm& vm) {
    const Result<void> refused = vm.enable_dirty_ring_bitmap();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, EINVAL);
    EXPECT_NE(refused.error().message().find("no dirty rings yet, or a memory slot already"),
              std::string::npos)
        << refused.error().message();
}

TEST_F(ArmRulesTest, TheBitmapComesAfterTheRings) {
    kvm::Vm vm = must(system().create_vm());
    expect_bitmap_refused(vm);
    must(vm.enable_dirty_ring(256));
    must(vm.enable_dirty_ring_bitmap());
}

TEST_F(ArmRulesTest, TheBitmapComesBeforeTheSlots) {
    const ArmVm vm(system(), {.ring_entries = 256});
    expect_bitmap_refused(vm.vm());
}

TEST_F(ArmRulesTest, ARingOfAnotherProgramIsFoundInItsTrueSize) {
    kvm::Vm vm = must(system().create_vm());
    must(vm.enable_dirty_ring(4096));
    const kvm::Vcpu vcpu = must(vm.create_vcpu(0));
    EXPECT_EQ(must(Ring::adopt(vcpu.fd())).size(), 4096U);
}

// RingSource arms all of memory in this way after a loss.
TEST_F(ArmRulesTest, TogglingTheLoggingOfASlotArmsItsPages) {
    ArmVm vm(system(), {.ring_entries = 65'536, .writes = 20'000});
    vm.make_vcpus();
    const Ring ring = vm.map_ring(0);
    vm.run_round(0, nullptr);
    const std::uint32_t logged = ring.fill();
    EXPECT_GE(logged, written_pages) << "so many writes miss no page";
    vm.run_round(0, nullptr);
    ASSERT_EQ(ring.fill(), logged) << "none is armed";
    for (const MemorySlot& slot : vm.memory().slots()) {
        for (const std::uint32_t flags : {0U, std::uint32_t{KVM_MEM_LOG_DIRTY_PAGES}}) {
            // SAFETY: the slot's own memory again.
            must(vm.vm().set_user_memory_region({slot.slot, flags, slot.guest_address, slot.size,
                                                 reinterpret_cast<std::uintptr_t>(slot.host)}));
        }
    }
    vm.run_round(0, nullptr);
    EXPECT_GE(ring.fill(), logged + written_pages);
}

}  // namespace
}  // namespace dirtyring::arm64
