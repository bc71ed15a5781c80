// SPDX-License-Identifier: MIT
//
// A kernel that pushes past the end of a full ring (kvm_pvm does, with guest code in ring 0): each
// loss is reported, the guest goes on, and what is reported afterwards is exact again.
#include "tracked_run.hpp"

namespace dirtyring {
namespace {

class OverrunTest : public TrackedTest, public ::testing::WithParamInterface<std::uint32_t> {};

TEST_P(OverrunTest, IsReportedAndHealed) {
    if (!has(KVM_CAP_DIRTY_LOG_RING)) {
        GTEST_SKIP() << "this kernel's KVM has no dirty ring";
    }
    TrackedRun test{.name = "overrun", .entries = GetParam(), .vcpus = 2, .guest = "ring0_flood"};
    test.privilege = 0;
    test.params = {{"working_set", "16M"}};
    test.drained = false;  // so that rings fill
    test.writes = 150000;
    const TrackedOutcome outcome = run(test);
    expect_nothing_lost(outcome);
    if (outcome.overruns == 0) {
        GTEST_SKIP() << "this kernel kept to the soft limit: no overrun in " << outcome.writes
                     << " page writes";
    }
    EXPECT_GT(outcome.everything, 0U) << "entries were lost and no collect said so";
    std::cout << outcome.overruns << " overruns, " << outcome.everything << " of " << outcome.checks
              << " collects said everything\n";
}

INSTANTIATE_TEST_SUITE_P(Rings, OverrunTest, ::testing::Values(1024, 2048, 4096));

}  // namespace
}  // namespace dirtyring
