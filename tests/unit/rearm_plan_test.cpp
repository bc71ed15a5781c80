// SPDX-License-Identifier: MIT
//
// How the entries of a ring are rewritten before the kernel resets them.
#include <gtest/gtest.h>

#include <cstdint>

#include "hot_rings.hpp"

namespace dirtyring {
namespace {

using fake::high;
using fake::PageList;

const PageList nothing;
constexpr std::uint32_t no_slot = Ring::Batch::no_slot;

class RearmPlanEntries : public fake::HotRings,
                         public ::testing::WithParamInterface<std::uint64_t> {
  protected:
    RearmPlanEntries() { source_.keep_hot(GetParam()); }
};

// Neighbours share a lock round in the kernel, in the order in which they come.
TEST_P(RearmPlanEntries, AreResetInTheOrderOfTheirPages) {
    store({{high, 7}, {0, 900}, {0, 3}, {high, 2}, {0, 70}, {0, 4}});
    EXPECT_EQ(offered_by_collect(6),
              (PageList{{0, 3}, {0, 4}, {0, 70}, {0, 900}, {high, 2}, {high, 7}}));
    expect_exact_and_armed();
}

TEST_P(RearmPlanEntries, OfOnePageAreResetOnce) {
    store({{0, 8}, {0, 3}});
    kernel_.push(0, 0, 8);
    kernel_.push(0, 0, 8);
    EXPECT_EQ(offered_by_collect(4), (PageList{{0, 3}, {0, 8}, {no_slot, 0}, {no_slot, 0}}));
    EXPECT_EQ(source_.statistics(0).fresh, 2U);
    EXPECT_EQ(vm_.lost(), nothing);
}

// The kernel drops a batch that reaches past its slot, with all pages in it.
TEST_P(RearmPlanEntries, ThatNameNoPageDoNotKeepThoseBesideThemFromBeingArmed) {
    kernel_.push(0, 0, 1024);  // past its end
    store({{0, 1023}});
    kernel_.push(0, 0, 1030);
    kernel_.push(0, 9, 0);  // no such slot
    store({{high, 999}});
    kernel_.push(0, high, 1000);
    EXPECT_EQ(
        offered_by_collect(6),
        (PageList{{0, 1023}, {high, 999}, {no_slot, 0}, {no_slot, 0}, {no_slot, 0}, {no_slot, 0}}));
    EXPECT_EQ(source_.statistics().stale, 4U);
    expect_exact_and_armed();
}

INSTANTIATE_TEST_SUITE_P(Hot, RearmPlanEntries, ::testing::Values(0U, 100U), [](const auto& most) {
    return most.param == 0 ? "NotAllowed" : "Allowed";
});

using RearmPlanCarrying = fake::HotRings;

// Those of hot pages fall out, and what is armed goes to the front.
TEST_F(RearmPlanCarrying, EntriesAreInTheOrderOfTheirPagesToo) {
    heat({{0, 50}, {high, 1}});
    found_clean({{0, 50}, {high, 1}});
    const std::uint32_t before = kernel_.dirty_index(0);
    store({{high, 8}, {0, 900}});
    kernel_.push(0, 9, 0);
    kernel_.push(0, 9, 1);
    kernel_.push(0, 9, 2);
    PageList offered = offered_by_collect(before + 5);
    offered.erase(offered.begin(), offered.begin() + before);
    EXPECT_EQ(offered, (PageList{{0, 50}, {0, 900}, {high, 1}, {high, 8}, {no_slot, 0}}));
    expect_exact_and_armed();
}

}  // namespace
}  // namespace dirtyring
