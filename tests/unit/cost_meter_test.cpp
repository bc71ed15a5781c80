// SPDX-License-Identifier: MIT
#include "../../src/cost_meter.hpp"

#include <gtest/gtest.h>

namespace dirtyring {
namespace {

constexpr double guess = 3000;

TEST(CostMeterTest, FindsWhatOneMoreCosts) {
    CostMeter meter(guess);
    for (int round = 0; round < 100; ++round) {
        const double count = round % 10 * 20;
        meter.add(count, 50'000 + 700 * count);
    }
    EXPECT_NEAR(meter.cost(), 700, 1);
}

TEST(CostMeterTest, KeepsItsGuessWhereCountsTellNothing) {
    CostMeter meter(guess);
    for (int round = 0; round < 100; ++round) {
        meter.add(10, 300'000 + round % 3);
    }
    EXPECT_EQ(meter.cost(), guess);
}

// The guest stood still between two epochs, as others had their turn.
TEST(CostMeterTest, APauseIsNoCostOfAPage) {
    CostMeter meter(guess);
    for (int round = 0; round < 200; ++round) {
        const bool pause = round % 50 == 20;
        meter.add(pause ? 200 : 100, 40'000 + 100 * 3000 + (pause ? 100e6 : 0));
    }
    EXPECT_LE(meter.cost(), 4000);
    EXPECT_GT(meter.cost(), 0);
}

TEST(CostMeterTest, FollowsAHostThatHasBecomeSlower) {
    CostMeter meter(guess);
    for (int round = 0; round < 2000; ++round) {
        const double each = round < 200 ? 1000 : 30'000;
        const double count = 100 + round % 10 * 10;
        meter.add(count, 40'000 + each * count);
    }
    EXPECT_NEAR(meter.cost(), 30'000, 500);
}

}  // namespace
}  // namespace dirtyring
