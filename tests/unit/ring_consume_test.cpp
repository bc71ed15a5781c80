// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "dirtyring/harvest.hpp"
#include "dirtyring/ring.hpp"
#include "fake_kernel.hpp"
#include "must.hpp"

namespace dirtyring {
namespace {

using Offsets = std::vector<std::uint64_t>;

// A ring of 8 entries, all of them usable, and the kernel's side of it.
class RingConsume : public ::testing::Test {
  protected:
    RingConsume() { kernel_.answer(faults_); }

    void push(std::uint64_t first, std::uint64_t count = 1) {
        for (std::uint64_t i = 0; i < count; ++i) {
            kernel_.push(0, 0, first + i);
        }
    }
    Offsets consume() {
        Offsets all;
        const std::uint32_t count =
            ring_.consume([&](RingEntry entry) { all.push_back(entry.offset); });
        EXPECT_EQ(count, all.size());
        return all;
    }

    fake::Kernel kernel_{{.entries = 8, .reserved = 0}};
    faulty::Faults faults_;
    ResetHandle handle_{fake::Kernel::fd()};
    Ring ring_ = must(Ring::over(kernel_.ring(0)));
};

TEST_F(RingConsume, GivesAndReleasesWhatIsLogged) {
    push(1, 3);
    EXPECT_EQ(consume(), (Offsets{1, 2, 3}));
    EXPECT_TRUE(ring_.reset_pending());
    EXPECT_EQ(consume(), Offsets());
    EXPECT_EQ(must(handle_.reset_once()), 3U);
    EXPECT_EQ(must(handle_.reset_once()), 0U);
}

TEST_F(RingConsume, GoesOnAtTheRingsStart) {
    for (std::uint64_t round = 0; round < 20; ++round) {
        push(round * 5, 5);
        ASSERT_EQ(consume(),
                  (Offsets{round * 5, round * 5 + 1, round * 5 + 2, round * 5 + 3, round * 5 + 4}));
        ASSERT_EQ(must(handle_.reset_once()), 5U);
    }
}

TEST_F(RingConsume, ReleasesEachEntryBeforeItGivesIt) {
    push(1, 2);
    std::uint32_t reset = 0;
    ring_.consume([&](RingEntry) { reset += handle_.reset_once().value_or(0); });
    EXPECT_EQ(reset, 2U);
}

// A vCPU that logs one page for each that is read would have it go on for ever.
TEST_F(RingConsume, EndsAfterOneRingHoweverFastThatFills) {
    push(0, 3);  // so that it goes round the end of the ring's memory
    consume();
    must(handle_.reset_once());
    push(0, 8);
    std::uint64_t next = 8;
    const auto refill = [&](RingEntry) {
        if (next < 1000) {
            push(next++);
        }
    };
    EXPECT_EQ(ring_.consume(refill), 8U);
    EXPECT_EQ(ring_.consume(refill), 8U);
    EXPECT_EQ(next, 24U);
}

TEST_F(RingConsume, TakesOnlyExactlyDirtyForLogged) {
    // RESET; both; an unknown bit; that with DIRTY beside it; all.
    for (const std::uint32_t hostile : {2U, 3U, 4U, 5U, ~0U}) {
        kernel_.ring(0)[0].flags = hostile;
        kernel_.ring(0)[1].flags = KVM_DIRTY_GFN_F_DIRTY;
        EXPECT_EQ(consume(), Offsets()) << hostile;
        EXPECT_EQ(kernel_.ring(0)[0].flags, hostile);
    }
}

// A ring of one entry, which is taken and written again at once: reading it after its release is a
// race, which TSan shows.
TEST(RingConsumeThreads, EachEntryIsReadBeforeItIsReleased) {
    constexpr std::uint64_t entries = 5000;
    // Looked at before each push, so that the kernel's side is plain, as where nothing overruns.
    fake::Kernel kernel({.entries = 1, .reserved = 0, .look_every = 0, .slots = {{0, entries}}});
    faulty::Faults faults;
    kernel.answer(faults);
    std::atomic<bool> done = false;
    std::jthread producer([&] {
        for (std::uint64_t page = 0; page < entries; ++page) {
            while (!kernel.write(0, 0, page)) {
                std::this_thread::yield();
            }
        }
    });
    std::jthread resetter([&] {
        const ResetHandle handle(fake::Kernel::fd());
        while (!done) {
            must(handle.reset_once());
            std::this_thread::yield();
        }
    });

    Ring ring = must(Ring::over(kernel.ring(0)));
    std::uint64_t next = 0;
    std::uint64_t wrong = 0;
    while (next < entries) {
        const std::uint32_t count = ring.consume([&](RingEntry entry) {
            wrong += entry.slot != 0 || entry.offset != next ? 1U : 0U;
            ++next;
        });
        if (count == 0) {
            std::this_thread::yield();
        }
    }
    done = true;
    EXPECT_EQ(wrong, 0U);
}

}  // namespace
}  // namespace dirtyring
