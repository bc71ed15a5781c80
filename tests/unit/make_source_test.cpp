// SPDX-License-Identifier: MIT
//
// Which source is made, why, and what is turned on for it.
#include "dirtyring/source/make_source.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>
#include <vector>

#include "dirtyring/source/ring_source.hpp"
#include "fake_kvm.hpp"
#include "must.hpp"

namespace dirtyring {
namespace {

/// What a kernel has.
struct Host {
    int ring_bytes = 0;
    int with_bitmap = 0;
    int manual_protect = 0;
};

constexpr Host everything{
    .ring_bytes = 1 << 20,
    .manual_protect = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET};
constexpr Host arm64{.ring_bytes = 1 << 20, .with_bitmap = 1};

std::byte never_touched{};

class MakeSource : public ::testing::Test {
  protected:
    void kernel(const Host& host) {
        faults_.on_ioctl(KVM_CHECK_EXTENSION, [host](int, void* argument) {
            // SAFETY: this request's argument is a number and is not followed.
            switch (reinterpret_cast<std::uintptr_t>(argument)) {
                case KVM_CAP_DIRTY_LOG_RING:
                case kvm::abi::cap_dirty_log_ring_acq_rel:
                    return host.ring_bytes;
                case kvm::abi::cap_dirty_log_ring_with_bitmap:
                    return host.with_bitmap;
                case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
                    return host.manual_protect;
                default:
                    return 0;
            }
        });
        faults_.on_other_ioctls([this](int, unsigned long request, void* argument) {
            if (request == KVM_ENABLE_CAP) {
                // SAFETY: this request's argument is a kvm_enable_cap.
                const auto& cap = *static_cast<const kvm_enable_cap*>(argument);
                enabled_.push_back({cap.cap, cap.args[0]});
                return answer_;
            }
            others_.push_back(request);
            return 0;
        });
    }
    Result<ChosenSource> make(const SourceOptions& options = {}) {
        return make_source(vm_, memory_, options);
    }
    Error refused(const SourceOptions& options) {
        const Result<ChosenSource> source = make(options);
        EXPECT_FALSE(source);
        EXPECT_TRUE(others_.empty());
        return source ? Error() : source.error();
    }

    /// Capability, and its first argument.
    using Enabled = std::vector<std::pair<std::uint32_t, std::uint64_t>>;
    static constexpr std::uint32_t ring_cap = kvm::abi::cap_dirty_log_ring_acq_rel;

    faulty::Faults faults_;
    kvm::Fd vm_ = make_descriptor();
    MemoryMap memory_;
    Enabled enabled_;
    std::vector<unsigned long> others_;  // ioctls beside those
    int answer_ = 0;
};

// Chosen
// ---------------------------------------------------------------------------------------------

TEST_F(MakeSource, RingsWhereThereAreAny) {
    kernel({.ring_bytes = 1 << 20, .manual_protect = 1});
    const ChosenSource source = must(make());
    EXPECT_EQ(source.way, Tracking::ring);
    EXPECT_NE(source.why.find("cost follows the pages written"), std::string::npos) << source.why;
    EXPECT_NE(source.source->rings(), nullptr);
    EXPECT_EQ(enabled_, (Enabled{{ring_cap, 1 << 20}}));  // the largest, in bytes
    EXPECT_TRUE(others_.empty());
}

TEST_F(MakeSource, TheManualBitmapWithoutRings) {
    kernel({.manual_protect = 3});
    const ChosenSource source = must(make());
    EXPECT_EQ(source.way, Tracking::manual_bitmap);
    EXPECT_NE(source.why.find("has no rings"), std::string::npos) << source.why;
    EXPECT_EQ(source.source->rings(), nullptr);
    // Not KVM_DIRTY_LOG_INITIALLY_SET, though the kernel has it.
    EXPECT_EQ(enabled_,
              (Enabled{{KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE}}));
}

TEST_F(MakeSource, TheBitmapWhereThereIsNothingElse) {
    kernel({});
    const ChosenSource source = must(make());
    EXPECT_EQ(source.way, Tracking::bitmap);
    EXPECT_NE(source.why.find("neither rings nor"), std::string::npos) << source.why;
    EXPECT_EQ(source.source->rings(), nullptr);
    EXPECT_EQ(enabled_, Enabled());
}

// Asked for
// ---------------------------------------------------------------------------------------------

TEST_F(MakeSource, TheBitmapsAreMadeWhereTheyAreAskedFor) {
    kernel(everything);
    ChosenSource source = must(make({.way = Tracking::bitmap}));
    EXPECT_EQ(source.way, Tracking::bitmap);
    EXPECT_EQ(source.why, "it was asked for");
    EXPECT_EQ(source.source->rings(), nullptr);
    EXPECT_EQ(enabled_, Enabled());
    source = must(make({.way = Tracking::manual_bitmap}));
    EXPECT_EQ(source.way, Tracking::manual_bitmap);
    EXPECT_EQ(source.source->rings(), nullptr);
    EXPECT_EQ(enabled_.size(), 1U);
}

// It is the manual bitmap that clears, and the other that does not.
TEST_F(MakeSource, EachBitmapIsReadInItsOwnWay) {
    kernel(everything);
    ASSERT_TRUE(memory_.add({0, 0, 64 * page_size, &never_touched}));
    unsigned clears = 0;
    faults_.on_ioctl(KVM_GET_DIRTY_LOG, [](int, void* argument) {
        // SAFETY: this request's argument is a kvm_dirty_log, with room for one word.
        *static_cast<std::uint64_t*>(static_cast<kvm_dirty_log*>(argument)->dirty_bitmap) = 6;
        return 0;
    });
    faults_.on_ioctl(KVM_CLEAR_DIRTY_LOG, [&](int, void*) {
        ++clears;
        return 0;
    });
    EXPECT_EQ(must(must(make({.way = Tracking::bitmap})).source->collect({})).size(), 2U);
    EXPECT_EQ(clears, 0U);
    EXPECT_EQ(must(must(make({.way = Tracking::manual_bitmap})).source->collect({})).size(), 2U);
    EXPECT_EQ(clears, 1U);
}

TEST_F(MakeSource, RingsHaveTheEntriesThatAreAskedFor) {
    kernel(everything);
    must(make({.way = Tracking::ring, .ring_entries = 4096}));
    EXPECT_EQ(enabled_, (Enabled{{ring_cap, 4096 * 16}}));
}

TEST_F(MakeSource, TheSourceIsOverTheSlotsThatAreGiven) {
    kernel(everything);
    ASSERT_TRUE(memory_.add({3, 0, 5 * page_size, &never_touched}));
    for (const Tracking way : {Tracking::ring, Tracking::bitmap, Tracking::manual_bitmap}) {
        const ChosenSource source = must(make({.way = way}));
        const Pages pages = must(source.source->collect({}));
        ASSERT_EQ(pages.set().memory().slots().size(), 1U) << name(way);
        EXPECT_EQ(pages.set().memory().slots()[0], memory_.slots()[0]) << name(way);
    }
}

TEST_F(MakeSource, TheDescriptorIsBorrowed) {
    kernel(everything);
    must(make());
    EXPECT_EQ(faults_.calls(faulty::Call::close), 0U);
}

// Refused
// ---------------------------------------------------------------------------------------------

TEST_F(MakeSource, AWayThatTheKernelLacksIsRefusedAndNothingTurnedOn) {
    kernel({});
    struct Lacking {
        Tracking way;
        const char* says;
    };
    for (const auto& [way, says] : {Lacking{Tracking::ring, "dirty rings"},
                                    Lacking{Tracking::ring_with_bitmap, "bitmap beside them"},
                                    Lacking{Tracking::manual_bitmap, "manual protection"}}) {
        const Error error = refused({.way = way});
        EXPECT_EQ(error.code, EOPNOTSUPP);
        EXPECT_EQ(error.operation, std::string("track by ") + name(way));
        EXPECT_NE(error.cause.find(says), std::string::npos) << error.message();
        EXPECT_NE(error.remedy.find("dirtyring probe"), std::string::npos) << error.message();
    }
    EXPECT_EQ(enabled_, Enabled());
}

TEST_F(MakeSource, ABitmapBesideTheRingsIsTurnedOnAfterThem) {
    kernel(arm64);
    const ChosenSource chosen =
        must(make({.way = Tracking::ring_with_bitmap, .ring_entries = 512}));
    EXPECT_NE(chosen.source->rings(), nullptr);
    EXPECT_EQ(enabled_, (Enabled{{ring_cap, 512 * sizeof(kvm_dirty_gfn)},
                                 {kvm::abi::cap_dirty_log_ring_with_bitmap, 0}}));
}

TEST_F(MakeSource, ABitmapBesideTheRingsIsChosenWhereThereIsOne) {
    kernel(arm64);
    const ChosenSource chosen = must(make());
    EXPECT_EQ(chosen.way, Tracking::ring_with_bitmap);
    EXPECT_NE(chosen.why.find("without a vCPU"), std::string::npos) << chosen.why;
}

TEST_F(MakeSource, ABitmapBesideRingsIsNoWayWhereThereAreNoRings) {
    kernel({.with_bitmap = 1});
    EXPECT_EQ(refused({.way = Tracking::ring_with_bitmap}).code, EOPNOTSUPP);
    EXPECT_EQ(must(make()).way, Tracking::bitmap);
}

TEST_F(MakeSource, ARefusalOfTheRingsIsTheAnswer) {
    kernel(everything);
    answer_ = -EINVAL;
    const Error error = refused({.ring_entries = 512});
    EXPECT_EQ(error.code, EINVAL);
    EXPECT_EQ(error.operation.find("KVM_ENABLE_CAP"), 0U) << error.operation;
    EXPECT_EQ(enabled_.size(), 1U);  // and no other way is tried
}

TEST_F(MakeSource, ARefusalOfTheManualBitmapIsTheAnswer) {
    kernel({.manual_protect = 1});
    answer_ = -EINVAL;
    const Error error = refused({});
    EXPECT_EQ(error.code, EINVAL);
    EXPECT_EQ(error.operation.find("KVM_ENABLE_CAP"), 0U) << error.operation;
}

TEST_F(MakeSource, WithoutAnAnswerToTheProbeThereIsNoSource) {
    kernel(everything);
    faults_.fail_next(faulty::Call::ioctl, EBADF);
    const Error error = refused({});
    EXPECT_EQ(error.code, EBADF);
    EXPECT_EQ(error.operation.find("KVM_CHECK_EXTENSION"), 0U) << error.operation;
    EXPECT_EQ(enabled_, Enabled());
}

}  // namespace
}  // namespace dirtyring
