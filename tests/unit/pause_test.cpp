// SPDX-License-Identifier: MIT
#include "dirtyring/pause.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <optional>
#include <string>
#include <vector>

#include "must.hpp"
#include "tracked_vm.hpp"

namespace dirtyring {
namespace {

using fake::TrackedVm;

/// vCPUs that write down what is asked of them.
class PauseTest : public ::testing::Test {
  protected:
    using Calls = std::vector<std::string>;

    Result<Pause> begin() { return Pause::begin(vm_.tracker, control_); }

    TrackedVm vm_{{.vcpus = 3, .entries = 256, .slots = {{0, 1024}}}};
    Calls calls_;
    Result<void> waited_;
    const VcpuControl control_{
        .kick = [this](std::size_t vcpu) { calls_.push_back("kick " + std::to_string(vcpu)); },
        .wait =
            [this] {
                calls_.emplace_back("wait");
                return waited_;
            },
        .resume = [this] { calls_.emplace_back("resume"); }};
};

TEST_F(PauseTest, KicksEveryVcpuWaitsOnceAndLetsAllGoOn) {
    {
        const Pause pause = must(begin());
        EXPECT_EQ(calls_, (Calls{"kick 0", "kick 1", "kick 2", "wait"}));
    }
    EXPECT_EQ(calls_, (Calls{"kick 0", "kick 1", "kick 2", "wait", "resume"}));
}

TEST_F(PauseTest, KicksOnlyThoseThatAreThere) {
    must(vm_.tracker.remove_vcpu(1, VcpuStopped()));
    {
        const Pause pause = must(begin());
    }
    EXPECT_EQ(calls_, (Calls{"kick 0", "kick 2", "wait", "resume"}));
}

TEST_F(PauseTest, AFailedWaitLetsTheVcpusGoOn) {
    waited_ = fail({ETIMEDOUT, "wait for vCPUs", {}, {}});
    const Result<Pause> pause = begin();
    ASSERT_FALSE(pause);
    EXPECT_EQ(pause.error().code, ETIMEDOUT);
    EXPECT_EQ(calls_, (Calls{"kick 0", "kick 1", "kick 2", "wait", "resume"}));
}

TEST_F(PauseTest, APauseThatIsMovedEndsOnce) {
    std::optional<Pause> pause;
    {
        Pause first = must(begin());
        pause.emplace(std::move(first));
    }
    EXPECT_EQ(calls_.back(), "wait");
    pause.reset();
    EXPECT_EQ(std::ranges::count(calls_, "resume"), 1);
}

TEST_F(PauseTest, ItsTimeIsThatOfEachVcpu) {
    must(vm_.tracker.remove_vcpu(2, VcpuStopped()));
    {
        const Pause pause = must(begin());
    }
    const Statistics statistics = vm_.tracker.statistics();
    EXPECT_GT(statistics.vcpus[0].stopped_nanoseconds, 0U);
    EXPECT_EQ(statistics.vcpus[1].stopped_nanoseconds, statistics.vcpus[0].stopped_nanoseconds);
    EXPECT_EQ(statistics.vcpus[2].stopped_nanoseconds, 0U);
}

TEST_F(PauseTest, ACollectInItIsOneWithAllVcpusStopped) {
    Consumer consumer = vm_.tracker.add_consumer();
    for (std::uint64_t page = 0; page < 10; ++page) {
        vm_.store(0, 0, page);
    }
    vm_.kernel.kill_after(1);
    const Pause pause = must(begin());
    must(consumer.collect(pause.stopped())).commit();
    EXPECT_EQ(vm_.unarmed(), fake::PageList());
}

// The controls are borrowed: some that go at once would be called after they have gone.
template <typename Control>
concept Pausable = requires(Tracker& tracker, Control control) {
    Pause::begin(tracker, static_cast<Control>(control));
};
static_assert(Pausable<const VcpuControl&>);
static_assert(Pausable<VcpuControl&>);
static_assert(!Pausable<VcpuControl&&>);

}  // namespace
}  // namespace dirtyring
