// SPDX-License-Identifier: MIT
//
// What no vCPU writes: the interrupt controller's tables, which KVM saves to guest memory on
// request. Only the bitmap beside the rings knows of that.
#include <cstring>
#include <optional>

#include "arm_fixture.hpp"
#include "dirtyring/kvm/device.hpp"
#include "oracle.hpp"

namespace dirtyring::arm64 {
namespace {

// Where no slot is.
constexpr std::uint64_t distributor = 0x0800'0000;
constexpr std::uint64_t redistributors = 0x0810'0000;
constexpr std::uint64_t translator = 0x0900'0000;

// The table of collections, on a page that no guest writes to.
constexpr std::uint64_t table = (high_begin + high_size - (128 << 10)) & ~std::uint64_t{0xffff};
constexpr std::uint64_t table_page = (table - high_begin) / page_size;
constexpr std::uint64_t gits_baser1 = 0x108;
constexpr std::uint64_t gits_baser_valid = std::uint64_t{1} << 63;

class BackupTest : public ArmTest {
  protected:
    /// A VM with rings, a vCPU and an interrupt controller whose translator (ITS) has a table of
    /// collections in guest memory.
    void make(bool with_bitmap) {
        vm_.emplace(system(), Config{.ring_entries = 1024, .ring_bitmap = with_bitmap});
        vm_->make_vcpus();
        gic_ = device(KVM_DEV_TYPE_ARM_VGIC_V3);
        address(*gic_, KVM_VGIC_V3_ADDR_TYPE_DIST, distributor);
        address(*gic_, KVM_VGIC_V3_ADDR_TYPE_REDIST, redistributors);
        control(*gic_, KVM_DEV_ARM_VGIC_CTRL_INIT);
        its_ = device(KVM_DEV_TYPE_ARM_VGIC_ITS);
        address(*its_, KVM_VGIC_ITS_ADDR_TYPE, translator);
        control(*its_, KVM_DEV_ARM_VGIC_CTRL_INIT);
        must(its_->set_attr(KVM_DEV_ARM_VGIC_GRP_ITS_REGS, gits_baser1, gits_baser_valid | table));
        // KVM ends the table, which has no collections, with an entry of 0.
        std::memset(vm_->host(table), 0xee, 8);

        source_.emplace(vm_->vm().fd(), vm_->memory(),
                        with_bitmap ? RingBackup::bitmap : RingBackup::none);
        add_rings(*source_, *vm_, 1);
    }
    /// KVM writes the table to guest memory (devices/arm-vgic-its.rst); no vCPU runs.
    void save_tables() { control(*its_, KVM_DEV_ARM_ITS_SAVE_TABLES); }

    std::optional<ArmVm> vm_;
    std::optional<kvm::Device> gic_;
    std::optional<kvm::Device> its_;
    std::optional<RingSource> source_;

  private:
    std::optional<kvm::Device> device(std::uint32_t type) {
        return must(vm_->vm().create_device(type));
    }
    static void address(const kvm::Device& device, std::uint64_t type, std::uint64_t at) {
        must(device.set_attr(KVM_DEV_ARM_VGIC_GRP_ADDR, type, at));
    }
    static void control(const kvm::Device& device, std::uint64_t what) {
        must(device.set_attr(KVM_DEV_ARM_VGIC_GRP_CTRL, what, std::uint64_t{0}));
    }
};

bool has_table(const Pages& pages) {
    const DirtySet& set = pages.set();
    return set.pages(set.memory().find(high_slot)).contains(table_page);
}

TEST_F(BackupTest, WithTheBitmapWhatKvmWritesIsReported) {
    make(true);
    Oracle oracle(vm_->memory());
    vm_->run_round(0, &*source_);
    save_tables();
    const Pages pages = must(source_->collect({}));
    EXPECT_TRUE(has_table(pages));
    EXPECT_FALSE(pages.everything());
    EXPECT_EQ(oracle.lost(pages), 0U);
    EXPECT_GT(oracle.changed(), 800U) << "the guest's pages and KVM's";
    EXPECT_EQ(must(source_->collect({})).size(), 0U);
    save_tables();
    const Pages again = must(source_->collect({}));
    EXPECT_TRUE(has_table(again));
    EXPECT_EQ(again.size(), 1U);
}

// So that the test above is about something.
TEST_F(BackupTest, WithoutTheBitmapItIsNot) {
    make(false);
    Oracle oracle(vm_->memory());
    vm_->run_round(0, &*source_);
    save_tables();
    const Pages pages = must(source_->collect({}));
    EXPECT_FALSE(has_table(pages));
    EXPECT_EQ(oracle.lost(pages), 1U) << "the table's page has changed, and nobody knows";
}

}  // namespace
}  // namespace dirtyring::arm64
