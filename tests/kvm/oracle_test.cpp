// SPDX-License-Identifier: MIT
//
// No page is lost: guests on one to four vCPUs write iteration numbers to pages of a working set
// while another thread harvests and resets. Bare sources only: tracker_oracle_test.cpp has more.
#include "tracked_run.hpp"

namespace dirtyring {
namespace {

class OracleTest : public TrackedTest, public ::testing::WithParamInterface<TrackedRun> {};

TEST_P(OracleTest, EveryChangedPageIsReported) {
    const TrackedRun& test = GetParam();
    if (test.way == Way::ring && !has(KVM_CAP_DIRTY_LOG_RING)) {
        GTEST_SKIP() << "this kernel's KVM has no dirty ring";
    }
    const TrackedOutcome outcome = run(test);
    expect_nothing_lost(outcome);
    // Ring-3 code keeps within the soft limit, so nothing may be lost on the way either.
    EXPECT_EQ(outcome.everything, 0U);
}

constexpr std::uint64_t million = 1000000;

TrackedRun writer(const char* name, Way way, std::uint32_t entries, std::uint32_t vcpus,
                  const char* pattern, bool drained, std::uint64_t writes) {
    TrackedRun test{.name = name, .way = way, .entries = entries, .vcpus = vcpus};
    test.params = {{"pattern", pattern}, {"working_set", "16M"}, {"writes", "5000"}};
    test.drained = drained;
    test.writes = writes;
    return test;
}

std::string name_of(const ::testing::TestParamInfo<TrackedRun>& info) {
    return info.param.name;
}

INSTANTIATE_TEST_SUITE_P(
    Rings, OracleTest,
    ::testing::Values(
        writer("Of1024OneVcpu", Way::ring, 1024, 1, "uniform", true, million / 4),
        writer("Of1024FourVcpus", Way::ring, 1024, 4, "uniform", true, million / 2),
        writer("Of2048TwoVcpusUndrained", Way::ring, 2048, 2, "zipf", false, million / 2),
        writer("Of4096TwoVcpus", Way::ring, 4096, 2, "sequential", true, million / 2),
        writer("Of16384ThreeVcpus", Way::ring, 16384, 3, "stride", true, million / 2),
        writer("Of65536OneVcpuUndrained", Way::ring, 65536, 1, "uniform", false, million),
        writer("Of65536FourVcpus", Way::ring, 65536, 4, "zipf", true, million / 2)),
    name_of);
// Less than 1,024 entries are refused where the CPU logs pages in hardware (Intel PML).
INSTANTIATE_TEST_SUITE_P(SmallestRings, OracleTest,
                         ::testing::Values(writer("Of256OneVcpu", Way::ring, 256, 1, "zipf", true,
                                                  million / 5),
                                           writer("Of256TwoVcpusUndrained", Way::ring, 256, 2,
                                                  "uniform", false, million / 5)),
                         name_of);
INSTANTIATE_TEST_SUITE_P(
    Bitmaps, OracleTest,
    ::testing::Values(writer("Automatic", Way::bitmap, 0, 2, "uniform", false, million / 2),
                      writer("Manual", Way::manual_bitmap, 0, 2, "zipf", false, million / 2)),
    name_of);

using StormTest = TrackedTest;

TEST_F(StormTest, SignalsAtTheResettingThreadLoseNothing) {
    if (!has(KVM_CAP_DIRTY_LOG_RING)) {
        GTEST_SKIP() << "this kernel's KVM has no dirty ring";
    }
    TrackedRun test = writer("storm", Way::ring, 4096, 2, "uniform", true, million / 2);
    test.storm = 500;
    const TrackedOutcome outcome = run(test);
    expect_nothing_lost(outcome);
    EXPECT_GE(outcome.signals, test.storm);
    EXPECT_EQ(outcome.short_resets, 0U) << "a signal got through to KVM_RESET_DIRTY_RINGS";
    EXPECT_EQ(outcome.everything, 0U);
}

}  // namespace
}  // namespace dirtyring
