// SPDX-License-Identifier: MIT
#include "dirtyring/ring.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <thread>
#include <type_traits>

#include "dirtyring/harvest.hpp"
#include "fake_kernel.hpp"
#include "must.hpp"

namespace dirtyring {
namespace {

static_assert(std::is_nothrow_move_constructible_v<Ring> &&
              std::is_nothrow_move_assignable_v<Ring>);
static_assert(!std::is_copy_constructible_v<Ring> && !std::is_copy_assignable_v<Ring>);

using Offsets = std::vector<std::uint64_t>;

Offsets offsets(const Ring::Batch& batch) {
    Offsets all;
    for (std::uint32_t i = 0; i < batch.size(); ++i) {
        all.push_back(batch[i].offset);
    }
    return all;
}

// A ring of 8 entries, all of them usable, and the kernel's side of it.
class RingTest : public ::testing::Test {
  protected:
    RingTest() { kernel_.answer(faults_); }

    void push(std::uint64_t first, std::uint64_t count = 1) {
        for (std::uint64_t i = 0; i < count; ++i) {
            kernel_.push(0, 0, first + i);
        }
    }
    /// What one KVM_RESET_DIRTY_RINGS takes.
    std::uint32_t reset() { return must(handle_.reset_once()); }
    [[nodiscard]] std::uint32_t& flags(std::uint32_t place) { return kernel_.ring(0)[place].flags; }

    fake::Kernel kernel_{{.entries = 8, .reserved = 0}};
    faulty::Faults faults_;
    ResetHandle handle_{fake::Kernel::fd()};
    Ring ring_ = must(Ring::over(kernel_.ring(0)));
};

TEST_F(RingTest, OverTakesPowersOfTwoOnly) {
    std::vector<kvm_dirty_gfn> entries(std::size_t{1} << 21);
    for (const std::size_t count : std::vector<std::size_t>{0, 3, 7, 100, 65535, 65537, 1 << 21}) {
        const Result<Ring> ring = Ring::over(std::span(entries).first(count));
        ASSERT_FALSE(ring) << count;
        EXPECT_EQ(ring.error().code, EINVAL);
        EXPECT_NE(ring.error().message().find(std::to_string(count) + " entries"),
                  std::string::npos);
    }
    for (const std::size_t count : std::vector<std::size_t>{1, 2, 256, 65536, 1 << 20}) {
        EXPECT_EQ(must(Ring::over(std::span(entries).first(count))).size(), count);
    }
}

TEST_F(RingTest, ShowsNothingWhereNothingIsLogged) {
    EXPECT_TRUE(ring_.peek().empty());
    EXPECT_EQ(ring_.peek().size(), 0U);
    EXPECT_FALSE(ring_.out_of_step());
}

TEST_F(RingTest, ShowsEntriesInTheOrderOfTheirWriting) {
    kernel_.push(0, 3, 70);
    kernel_.push(0, 1 << 16 | 2, std::uint64_t{1} << 40);
    const Ring::Batch batch = ring_.peek();
    ASSERT_EQ(batch.size(), 2U);
    EXPECT_EQ(batch[0].slot, 3U);
    EXPECT_EQ(batch[0].offset, 70U);
    EXPECT_EQ(batch[1].slot, 1U << 16 | 2U);
    EXPECT_EQ(batch[1].offset, std::uint64_t{1} << 40);
}

TEST_F(RingTest, PeekingAgainShowsTheSameAndPerhapsMore) {
    push(1);
    EXPECT_EQ(offsets(ring_.peek()), (Offsets{1}));
    EXPECT_EQ(offsets(ring_.peek()), (Offsets{1}));
    push(2);
    EXPECT_EQ(offsets(ring_.peek()), (Offsets{1, 2}));
}

TEST_F(RingTest, PeekShowsAtMostWhatIsAskedFor) {
    push(1, 5);
    EXPECT_EQ(offsets(ring_.peek(3)), (Offsets{1, 2, 3}));
    EXPECT_TRUE(ring_.peek(0).empty());
}

TEST_F(RingTest, ReleaseOfAPartLeavesTheRest) {
    push(1, 5);
    static_cast<void>(ring_.peek());
    ring_.release(2);
    EXPECT_EQ(offsets(ring_.peek()), (Offsets{3, 4, 5}));
    EXPECT_EQ(reset(), 2U);
    EXPECT_EQ(offsets(ring_.peek()), (Offsets{3, 4, 5}));
    ring_.release(3);
    EXPECT_EQ(reset(), 3U);
    EXPECT_TRUE(ring_.peek().empty());
}

TEST_F(RingTest, ReleaseSetsExactlyTheResetFlagOfExactlyThoseEntries) {
    push(1, 3);
    ring_.release(2);
    EXPECT_EQ(flags(0), std::uint32_t{KVM_DIRTY_GFN_F_RESET});
    EXPECT_EQ(flags(1), std::uint32_t{KVM_DIRTY_GFN_F_RESET});
    EXPECT_EQ(flags(2), std::uint32_t{KVM_DIRTY_GFN_F_DIRTY});
    EXPECT_EQ(flags(3), 0U);
}

TEST_F(RingTest, FillIsWhatIsLoggedAndNotReleased) {
    for (std::uint32_t round = 0; round < 20; ++round) {  // from every index, and around the end
        EXPECT_EQ(ring_.fill(), 0U);
        for (std::uint32_t logged = 1; logged <= 8; ++logged) {
            push(logged);
            EXPECT_EQ(ring_.fill(), logged);
        }
        ring_.release(3);
        EXPECT_EQ(ring_.fill(), 5U);
        ring_.release(5);
        EXPECT_EQ(ring_.fill(), 0U);
        reset();
        push(9);
        ring_.release(1);
        reset();
    }
}

TEST_F(RingTest, WrapsAroundAtItsEnd) {
    for (std::uint64_t round = 0; round < 20; ++round) {
        push(round * 5, 5);
        const Offsets expected = {round * 5, round * 5 + 1, round * 5 + 2, round * 5 + 3,
                                  round * 5 + 4};
        ASSERT_EQ(offsets(ring_.peek()), expected);
        ring_.release(5);
        ASSERT_EQ(reset(), 5U);
    }
}

TEST_F(RingTest, ReadsOnWhereItIsAfterTheKernelsIndicesWrapAtTwoToThe32) {
    fake::Kernel kernel({.entries = 8, .reserved = 0, .first_index = 0U - 16U});
    kernel.answer(faults_);
    Ring ring = must(Ring::over(kernel.ring(0)));
    for (std::uint64_t page = 0; page < 64; page += 4) {
        for (std::uint64_t i = 0; i < 4; ++i) {
            kernel.push(0, 0, page + i);
        }
        ASSERT_EQ(offsets(ring.peek()), (Offsets{page, page + 1, page + 2, page + 3}));
        ring.release(4);
        ASSERT_EQ(reset(), 4U);
    }
    EXPECT_EQ(kernel.dirty_index(0), 48U);
}

// With `flags & DIRTY` in place of an exact compare the reader would go round for ever.
TEST_F(RingTest, ACompletelyFullRingEndsAfterOneRound) {
    push(0, 8);
    EXPECT_EQ(ring_.peek().size(), 8U);
    ring_.release(8);
    EXPECT_TRUE(ring_.peek().empty());
    EXPECT_EQ(reset(), 8U);
    EXPECT_TRUE(ring_.peek().empty());
}

TEST_F(RingTest, ReleasedEntriesAreNotShownAgainBeforeTheReset) {
    push(0, 6);
    ring_.release(6);
    push(6, 2);
    EXPECT_EQ(offsets(ring_.peek()), (Offsets{6, 7}));
    ring_.release(2);
    EXPECT_TRUE(ring_.peek().empty());
}

TEST_F(RingTest, TakesOnlyExactlyDirtyForLogged) {
    // RESET; both; an unknown bit; that with DIRTY beside it; all.
    for (const std::uint32_t hostile : {2U, 3U, 4U, 5U, ~0U}) {
        flags(0) = hostile;
        flags(1) = KVM_DIRTY_GFN_F_DIRTY;
        EXPECT_TRUE(ring_.peek().empty()) << hostile;
    }
}

TEST_F(RingTest, ARewrittenEntryCarriesAnotherPageToTheReset) {
    fake::Kernel kernel({.entries = 8, .reserved = 0});
    kernel.answer(faults_);
    Ring ring = must(Ring::over(kernel.ring(0)));
    ASSERT_TRUE(kernel.write(0, 0, 10));
    ASSERT_TRUE(kernel.write(0, 0, 20));
    ASSERT_TRUE(kernel.write(0, 0, 30));
    const Ring::Batch batch = ring.peek();
    batch.rewrite(0, {0, 30});
    batch.rewrite(1, {Ring::Batch::no_slot, 0});
    EXPECT_EQ(offsets(ring.peek()), (Offsets{30, 0, 30}));
    batch.rewrite(2, {Ring::Batch::no_slot, 0});
    ring.release(3);
    EXPECT_EQ(reset(), 3U);
    EXPECT_FALSE(kernel.armed(0, 10));
    EXPECT_FALSE(kernel.armed(0, 20));
    EXPECT_TRUE(kernel.armed(0, 30));
}

// Why an entry that names no page must name a slot that does not exist.
TEST_F(RingTest, AnOffsetPastItsSlotCostsItsNeighboursTheirReset) {
    fake::Kernel kernel({.entries = 8, .reserved = 0, .slots = {{0, 100}}});
    kernel.answer(faults_);
    Ring ring = must(Ring::over(kernel.ring(0)));
    ASSERT_TRUE(kernel.write(0, 0, 98));
    ASSERT_TRUE(kernel.write(0, 0, 99));
    ring.peek().rewrite(1, {0, 100});
    ring.release(2);
    EXPECT_EQ(reset(), 2U);
    EXPECT_FALSE(kernel.armed(0, 98));
}

TEST_F(RingTest, AMovedRingReadsOnWhereItWas) {
    push(1, 4);
    ring_.release(2);
    Ring other = std::move(ring_);
    EXPECT_EQ(offsets(other.peek()), (Offsets{3, 4}));
    other.release(1);
    ring_ = std::move(other);
    EXPECT_EQ(offsets(ring_.peek()), (Offsets{4}));
}

// Overruns: 8 entries and 3 more
// ---------------------------------------------------------------------------------------------

TEST_F(RingTest, IsInStepWhileEntriesAreWhereTheReaderExpectsThem) {
    EXPECT_FALSE(ring_.out_of_step());
    push(0, 3);
    EXPECT_FALSE(ring_.out_of_step());
    ring_.release(2);
    EXPECT_FALSE(ring_.out_of_step());
    ring_.release(1);
    EXPECT_FALSE(ring_.out_of_step());
    reset();
    EXPECT_FALSE(ring_.out_of_step());
}

TEST_F(RingTest, IsOutOfStepOnceTheKernelLogsAheadOfIt) {
    push(0, 11);
    EXPECT_EQ(offsets(ring_.peek()), (Offsets{8, 9, 10, 3, 4, 5, 6, 7}));  // 0, 1 and 2 are lost
    ring_.release(8);
    EXPECT_EQ(reset(), 8U);
    EXPECT_FALSE(ring_.out_of_step());  // nothing shows it yet
    push(11);
    EXPECT_TRUE(ring_.peek().empty());
    EXPECT_TRUE(ring_.out_of_step());
}

TEST_F(RingTest, SkippingGoesToWhereTheLoggedEntriesBegin) {
    push(0, 11);
    ring_.release(8);
    reset();
    push(11, 2);
    EXPECT_EQ(ring_.skip_to_logged(VcpuStopped()), 3U);
    EXPECT_FALSE(ring_.out_of_step());
    EXPECT_EQ(offsets(ring_.peek()), (Offsets{11, 12}));
    EXPECT_EQ(ring_.skip_to_logged(VcpuStopped()), 0U);
    EXPECT_EQ(reset(), 0U);  // what was passed has not been released
}

// The latest entries stand where the reader is; the older ones, further on, come first.
TEST_F(RingTest, SkippingPassesEntriesThatHaveComeRound) {
    push(0, 11);
    ring_.release(8);
    reset();
    push(11, 7);  // places 3 to 7, then 0 and 1
    EXPECT_EQ(offsets(ring_.peek()), (Offsets{16, 17}));
    EXPECT_EQ(ring_.skip_to_logged(VcpuStopped()), 3U);
    EXPECT_EQ(offsets(ring_.peek()), (Offsets{11, 12, 13, 14, 15, 16, 17}));
}

TEST_F(RingTest, ThereIsNothingToSkipWhereAPieceOfSeveralBeginsAtTheIndex) {
    for (const std::uint32_t place : {0U, 1U, 4U, 6U}) {
        flags(place) = KVM_DIRTY_GFN_F_DIRTY;
    }
    EXPECT_EQ(ring_.skip_to_logged(VcpuStopped()), 0U);
    EXPECT_EQ(ring_.peek().size(), 2U);
}

TEST_F(RingTest, ThereIsNothingToSkipInStepOrWhereNothingOrEverythingIsLogged) {
    EXPECT_EQ(ring_.skip_to_logged(VcpuStopped()), 0U);
    push(1, 2);
    EXPECT_EQ(ring_.skip_to_logged(VcpuStopped()), 0U);
    EXPECT_EQ(offsets(ring_.peek()), (Offsets{1, 2}));
    push(3, 6);
    EXPECT_EQ(ring_.skip_to_logged(VcpuStopped()), 0U);
    EXPECT_EQ(offsets(ring_.peek()), (Offsets{1, 2, 3, 4, 5, 6, 7, 8}));
}

TEST_F(RingTest, OfferedPlacesReArmNothing) {
    constexpr std::uint32_t smm = 1 << 16;
    fake::Kernel kernel({.entries = 8, .reserved = 0, .slots = {{0, 4}, {smm, 4}}});
    kernel.answer(faults_);
    Ring ring = must(Ring::over(kernel.ring(0)));
    for (std::uint64_t page = 0; page < 4; ++page) {
        ASSERT_TRUE(kernel.write(0, 0, page));
        ASSERT_TRUE(kernel.write(0, smm, page));
    }
    ring.release(8);
    ring.offer_behind(8, VcpuStopped());
    EXPECT_EQ(reset(), 8U);
    for (std::uint64_t page = 0; page < 4; ++page) {
        EXPECT_FALSE(kernel.armed(0, page)) << page;
        EXPECT_FALSE(kernel.armed(smm, page)) << page;
    }
}

TEST_F(RingTest, TellsWhetherTheLastReleasedEntryAwaitsItsReset) {
    EXPECT_FALSE(ring_.reset_pending());
    push(1, 2);
    EXPECT_FALSE(ring_.reset_pending());
    ring_.release(2);
    EXPECT_TRUE(ring_.reset_pending());
    reset();
    EXPECT_FALSE(ring_.reset_pending());
    push(3);
    ring_.release(1);
    EXPECT_TRUE(ring_.reset_pending());  // the one before it does not
}

TEST_F(RingTest, OfferedPlacesAheadAreTakenAndPassed) {
    ring_.offer_ahead(5, VcpuStopped());
    EXPECT_EQ(reset(), 5U);
    for (int i = 0; i < 5; ++i) {
        kernel_.push(0, 0, 0);  // the kernel catches up
    }
    push(77);
    ring_.offer_behind(0, VcpuStopped());
    EXPECT_EQ(offsets(ring_.peek()), (Offsets{77}));
}

TEST_F(RingTest, PlacesOfferedBehindAreTakenFromTheKernelsIndexOn) {
    push(0, 4);
    ring_.release(4);
    // As an overrun leaves it: released entries that the kernel has written over and the reader has
    // read again stand there with their flags clear, and no reset gets past them.
    flags(0) = 0;
    flags(1) = 0;
    EXPECT_EQ(reset(), 0U);
    ring_.offer_behind(7, VcpuStopped());
    EXPECT_EQ(reset(), 4U);
    EXPECT_EQ(ring_.withdraw_behind(7, VcpuStopped()), 4U);
    EXPECT_EQ(reset(), 0U);
    for (std::uint32_t place = 0; place < 8; ++place) {
        EXPECT_EQ(flags(place), 0U) << place;
    }
    push(9);
    EXPECT_EQ(offsets(ring_.peek()), (Offsets{9}));
}

TEST_F(RingTest, OfferingPlacesBehindLeavesWhatIsLoggedAheadOfThem) {
    push(0, 3);
    ring_.release(3);
    for (std::uint32_t place = 0; place < 3; ++place) {
        flags(place) = 0;
    }
    push(77);
    ring_.offer_behind(3, VcpuStopped());
    EXPECT_EQ(reset(), 3U);
    EXPECT_EQ(offsets(ring_.peek()), (Offsets{77}));
}

// Threads (for TSan as much as for the assertions)
// ---------------------------------------------------------------------------------------------

// Ring for ring: a vCPU pushes, a reader peeks and releases, a third thread resets, all at once.
TEST(RingThreads, EntriesReachTheReaderInOrderAndTheResetAllOfThem) {
    constexpr std::uint64_t entries = 20'000;
    fake::Kernel kernel({.vcpus = 2, .entries = 128, .slots = {{0, 2 * entries}}});
    faulty::Faults faults;
    kernel.answer(faults);
    std::atomic<bool> done = false;

    const auto produce = [&](std::uint32_t vcpu) {
        for (std::uint64_t i = 0; i < entries; ++i) {
            while (!kernel.write(vcpu, 0, vcpu * entries + i)) {
                std::this_thread::yield();
            }
        }
    };
    std::jthread first([&] { produce(0); });
    std::jthread second([&] { produce(1); });
    std::uint64_t reset = 0;
    std::jthread resetter([&] {
        const ResetHandle handle(fake::Kernel::fd());
        while (!done) {
            reset += must(handle.reset_once());
            std::this_thread::yield();
        }
        reset += must(handle.reset_once());
    });

    std::array<Ring, 2> rings = {must(Ring::over(kernel.ring(0))),
                                 must(Ring::over(kernel.ring(1)))};
    std::array<std::uint64_t, 2> next = {0, entries};
    while (next[0] < entries || next[1] < 2 * entries) {
        for (std::size_t vcpu = 0; vcpu < 2; ++vcpu) {
            const Ring::Batch batch = rings[vcpu].peek(32);
            for (std::uint32_t i = 0; i < batch.size(); ++i) {
                if (batch[i].slot != 0 || batch[i].offset != next[vcpu]) {
                    ADD_FAILURE() << "vCPU " << vcpu << ": " << batch[i].offset << " in place of "
                                  << next[vcpu];
                }
                ++next[vcpu];
            }
            rings[vcpu].release(batch.size());
        }
    }
    done = true;
    resetter.join();
    EXPECT_EQ(reset, 2 * entries);
}

}  // namespace
}  // namespace dirtyring
