// SPDX-License-Identifier: MIT
#include "dirtyring/kvm/stats.hpp"

#include <algorithm>

#include "kvm_fixture.hpp"
#include "small_guest.hpp"

namespace dirtyring {
namespace {

class StatsTest : public KvmTest {
  protected:
    void SetUp() override {
        KvmTest::SetUp();
        if (!IsSkipped() && !has(KVM_CAP_BINARY_STATS_FD)) {
            GTEST_SKIP() << "this host's KVM has no KVM_CAP_BINARY_STATS_FD (Linux 5.14)";
        }
    }
};

TEST_F(StatsTest, AVcpusExitsGoUpWithEachRun) {
    SmallGuest guest(system(), {0xe6, 0x10,    // out 0x10, al
                                0xeb, 0xfc});  // jmp to it
    kvm::Stats stats = must(kvm::Stats::adopt(must(guest.vcpu.get_stats_fd())));
    EXPECT_NE(stats.id().find("/vcpu-0"), std::string::npos) << stats.id();
    must(stats.read());
    const kvm::Statistic* exits = stats.find("exits");
    ASSERT_NE(exits, nullptr);
    ASSERT_EQ(exits->values.size(), 1U);
    EXPECT_EQ(exits->type, kvm::StatisticType::cumulative);
    const std::uint64_t before = exits->values[0];
    for (int i = 0; i < 10; ++i) {
        guest.run_to<kvm::IoExit>();
    }
    must(stats.read());
    EXPECT_GE(exits->values[0], before + 10);
    EXPECT_EQ(stats.find("no such statistic"), nullptr);
}

TEST_F(StatsTest, HistogramsHaveABucketForEachPowerOfTwo) {
    const SmallGuest guest(system(), {0xf4});
    kvm::Stats stats = must(kvm::Stats::adopt(must(guest.vcpu.get_stats_fd())));
    const std::span<const kvm::Statistic> all = must(stats.read());
    const auto histogram =
        std::ranges::find(all, kvm::StatisticType::logarithmic_histogram, &kvm::Statistic::type);
    ASSERT_NE(histogram, all.end());
    EXPECT_GT(histogram->values.size(), 1U);
    EXPECT_EQ(histogram->unit, kvm::StatisticUnit::seconds);
    EXPECT_EQ(histogram->base, 10);
    EXPECT_EQ(histogram->exponent, -9) << histogram->name << " is in nanoseconds";
}

TEST_F(StatsTest, AVmHasItsOwn) {
    const kvm::Vm vm = must(system().create_vm());
    kvm::Stats stats = must(kvm::Stats::adopt(must(vm.get_stats_fd())));
    EXPECT_EQ(stats.id(), "kvm-" + std::to_string(getpid()));
    must(stats.read());
    EXPECT_NE(stats.find("remote_tlb_flush"), nullptr);
}

}  // namespace
}  // namespace dirtyring
