// SPDX-License-Identifier: MIT
//
// Statistics files of all shapes, and files that are none.
#include <gtest/gtest.h>

#include <cerrno>

#include "dirtyring/kvm/stats.hpp"
#include "fake_stats.hpp"
#include "must.hpp"

namespace dirtyring {
namespace {

Result<kvm::Stats> stats_of(const std::vector<std::byte>& file) {
    return kvm::Stats::adopt(make_file(file, file.size()));
}

void expect_not_statistics(const std::vector<std::byte>& file) {
    const Result<kvm::Stats> stats = stats_of(file);
    ASSERT_FALSE(stats);
    EXPECT_EQ(stats.error().code, EINVAL);
    EXPECT_NE(stats.error().message().find("no descriptor of KVM statistics"), std::string::npos);
}

TEST(StatsFile, NamesUnitsAndValues) {
    kvm::Stats stats = must(stats_of(stats_file(
        "kvm-77/vcpu-3",
        {{.name = "exits", .values = {41}},
         {.name = "pages",
          .flags = KVM_STATS_TYPE_INSTANT | KVM_STATS_UNIT_BYTES | KVM_STATS_BASE_POW2,
          .exponent = 12,
          .values = {5}},
         {.name = "wait",
          .flags = KVM_STATS_TYPE_LINEAR_HIST | KVM_STATS_UNIT_SECONDS | KVM_STATS_BASE_POW10,
          .exponent = -9,
          .bucket_size = 100,
          .values = {1, 2, 3}}})));
    EXPECT_EQ(stats.id(), "kvm-77/vcpu-3");
    ASSERT_NE(stats.find("exits"), nullptr);
    EXPECT_EQ(stats.find("exits")->values, (std::vector<std::uint64_t>{0})) << "not read yet";

    const std::span<const kvm::Statistic> all = must(stats.read());
    ASSERT_EQ(all.size(), 3U);
    EXPECT_EQ(all[0].name, "exits");
    EXPECT_EQ(all[0].type, kvm::StatisticType::cumulative);
    EXPECT_EQ(all[0].unit, kvm::StatisticUnit::none);
    EXPECT_EQ(all[0].values, (std::vector<std::uint64_t>{41}));
    EXPECT_EQ(all[1].type, kvm::StatisticType::instant);
    EXPECT_EQ(all[1].unit, kvm::StatisticUnit::bytes);
    EXPECT_EQ(all[1].base, 2);
    EXPECT_EQ(all[1].exponent, 12);
    EXPECT_EQ(stats.find("wait"), &all[2]);
    EXPECT_EQ(all[2].type, kvm::StatisticType::linear_histogram);
    EXPECT_EQ(all[2].unit, kvm::StatisticUnit::seconds);
    EXPECT_EQ(all[2].exponent, -9);
    EXPECT_EQ(all[2].bucket_size, 100U);
    EXPECT_EQ(all[2].values, (std::vector<std::uint64_t>{1, 2, 3}));
}

TEST(StatsFile, ANameMayFillItsFieldWithoutANul) {
    const std::string name(fake_name_bytes, 'x');
    EXPECT_NE(must(stats_of(stats_file(name, {{.name = name, .values = {1}}}))).find(name),
              nullptr);
}

TEST(StatsFile, NothingCountedIsNoError) {
    kvm::Stats stats = must(stats_of(stats_file("kvm-1", {})));
    EXPECT_TRUE(must(stats.read()).empty());
}

TEST(StatsFile, AFileThatEndsEarlyIsRefusedWhereverItEnds) {
    const std::vector<std::byte> file = stats_file("kvm-1", {{.name = "exits", .values = {1}}});
    for (std::size_t end = 0; end < file.size() - sizeof(std::uint64_t); ++end) {
        expect_not_statistics({file.begin(), file.begin() + static_cast<std::ptrdiff_t>(end)});
    }
}

TEST(StatsFile, ValuesThatAreMissingAreAnErrorOfReading) {
    std::vector<std::byte> file = stats_file("kvm-1", {{.name = "exits", .values = {1}}});
    file.pop_back();
    kvm::Stats stats = must(stats_of(file));
    EXPECT_FALSE(stats.read());
}

TEST(StatsFile, NoisePretendingToBeGigabytesIsRefused) {
    for (const std::size_t at : {4U, 8U}) {  // the size of names, the number of descriptors
        std::vector<std::byte> file = stats_file("kvm-1", {{.name = "exits", .values = {1}}});
        std::memset(file.data() + at, 0xff, 4);
        expect_not_statistics(file);
    }
    std::vector<std::byte> file = stats_file("kvm-1", {{.name = "exits", .values = {1}}});
    const std::uint32_t far = 0x7fffffff;
    std::memcpy(file.data() + fake_descriptors_offset + 8, &far, sizeof far);  // a value's offset
    expect_not_statistics(file);
    expect_not_statistics(std::vector<std::byte>(4096));
}

}  // namespace
}  // namespace dirtyring
