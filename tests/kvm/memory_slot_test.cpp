// SPDX-License-Identifier: MIT
//
// Memory slots and their bitmap log.
#include <cerrno>

#include "kvm_fixture.hpp"
#include "small_guest.hpp"

namespace dirtyring {
namespace {

using MemorySlotTest = KvmTest;

// Writes to the pages at 0x3000 and 0x5000, then leaves by OUT.
constexpr auto write_two_pages = {
    std::uint8_t{0xc6}, std::uint8_t{0x06}, std::uint8_t{0x00},
    std::uint8_t{0x30}, std::uint8_t{0x01},  // mov byte [0x3000], 1
    std::uint8_t{0xc6}, std::uint8_t{0x06}, std::uint8_t{0x00},
    std::uint8_t{0x50}, std::uint8_t{0x01},  // mov byte [0x5000], 1
    std::uint8_t{0xe6}, std::uint8_t{0x10},  // out 0x10, al
    std::uint8_t{0xf4},                      // hlt
};
constexpr std::uint64_t both = 1U << 3 | 1U << 5;

std::uint64_t dirty_log(const SmallGuest& guest) {
    std::uint64_t bitmap = 0;
    must(guest.vm.get_dirty_log(0, {&bitmap, 1}));
    return bitmap;
}

TEST_F(MemorySlotTest, OverlappingSlotsAreRefused) {
    const HostMemory memory(0x10000);
    const kvm::Vm vm = must(system().create_vm());
    kvm_userspace_memory_region region = slot_of(memory);
    must(vm.set_user_memory_region(region));
    region.slot = 1;
    region.guest_phys_addr = 0x1000;
    const Result<void> second = vm.set_user_memory_region(region);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, EEXIST);
    EXPECT_NE(second.error().message().find("KVM_SET_USER_MEMORY_REGION"), std::string::npos);
}

TEST_F(MemorySlotTest, ADeletedSlotHasNoLog) {
    const HostMemory memory(0x10000);
    const kvm::Vm vm = must(system().create_vm());
    kvm_userspace_memory_region region = slot_of(memory, KVM_MEM_LOG_DIRTY_PAGES);
    must(vm.set_user_memory_region(region));
    std::uint64_t bitmap = 0;
    must(vm.get_dirty_log(0, {&bitmap, 1}));
    region.memory_size = 0;
    must(vm.set_user_memory_region(region));
    const Result<void> log = vm.get_dirty_log(0, {&bitmap, 1});
    ASSERT_FALSE(log);
    EXPECT_EQ(log.error().code, ENOENT);
}

TEST_F(MemorySlotTest, Region2MakesASlotTheGuestRunsIn) {
    if (!has(kvm::abi::cap_user_memory2)) {
        GTEST_SKIP() << "this host's KVM has no KVM_CAP_USER_MEMORY2 (Linux 6.8)";
    }
    SmallGuest guest(system(), {0xe6, 0x10});  // out 0x10, al
    kvm_userspace_memory_region old = slot_of(guest.memory);
    old.memory_size = 0;
    must(guest.vm.set_user_memory_region(old));
    kvm::abi::UserMemoryRegion2 region{};
    region.memory_size = guest.memory.size();
    region.userspace_addr = slot_of(guest.memory).userspace_addr;
    must(guest.vm.set_user_memory_region2(region));
    EXPECT_EQ(guest.run_to<kvm::IoExit>().port, 0x10);
}

TEST_F(MemorySlotTest, GetDirtyLogReportsAndClears) {
    SmallGuest guest(system(), write_two_pages, {}, KVM_MEM_LOG_DIRTY_PAGES);
    dirty_log(guest);
    guest.run_to<kvm::IoExit>();
    EXPECT_EQ(dirty_log(guest) & both, both);
    EXPECT_EQ(dirty_log(guest) & both, 0U);
}

TEST_F(MemorySlotTest, ClearDirtyLogClearsJustThePagesNamed) {
    if (!has(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2)) {
        GTEST_SKIP() << "this host's KVM has no KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2";
    }
    SmallGuest guest(
        system(), write_two_pages,
        [](kvm::Vm& vm) {
            kvm_enable_cap manual{};
            manual.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2;
            manual.args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
            must(vm.enable_cap(manual));
        },
        KVM_MEM_LOG_DIRTY_PAGES);
    guest.run_to<kvm::IoExit>();
    EXPECT_EQ(dirty_log(guest) & both, both);
    EXPECT_EQ(dirty_log(guest) & both, both) << "reporting must not clear";
    const std::uint64_t third = 1U << 3;
    must(guest.vm.clear_dirty_log(0, 0, 16, {&third, 1}));
    EXPECT_EQ(dirty_log(guest) & both, 1U << 5);
}

TEST_F(MemorySlotTest, ClearDirtyLogWantsMultiplesOf64) {
    const SmallGuest guest(system(), {0xf4}, {}, KVM_MEM_LOG_DIRTY_PAGES);
    const std::uint64_t bits = 1;
    const Result<void> cleared = guest.vm.clear_dirty_log(0, 1, 1, {&bits, 1});
    ASSERT_FALSE(cleared);
    EXPECT_EQ(cleared.error().code, EINVAL);
    EXPECT_NE(cleared.error().message().find("KVM_CLEAR_DIRTY_LOG"), std::string::npos);
}

TEST_F(MemorySlotTest, TheBitmapIsRefusedOnceTheRingIsOn) {
    if (!has(KVM_CAP_DIRTY_LOG_RING) && !has(kvm::abi::cap_dirty_log_ring_acq_rel)) {
        GTEST_SKIP() << "this host's KVM has no dirty ring";
    }
    const SmallGuest guest(
        system(), {0xf4}, [](kvm::Vm& vm) { must(vm.enable_dirty_ring(1024)); },
        KVM_MEM_LOG_DIRTY_PAGES);
    std::uint64_t bitmap = 0;
    const Result<void> log = guest.vm.get_dirty_log(0, {&bitmap, 1});
    ASSERT_FALSE(log);
    EXPECT_EQ(log.error().code, ENXIO);
    EXPECT_EQ(must(guest.vm.reset_dirty_rings()), 0) << "nothing has been released";
}

}  // namespace
}  // namespace dirtyring
