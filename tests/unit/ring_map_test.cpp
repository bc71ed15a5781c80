// SPDX-License-Identifier: MIT
//
// Where a vCPU's ring is, and how large: a file in memory has pages up to its end as a vCPU's
// descriptor has up to its ring's.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <span>
#include <vector>

#include "dirtyring/ring.hpp"
#include "fake_kvm.hpp"
#include "must.hpp"

namespace dirtyring {
namespace {

std::size_t page_bytes() {
    return static_cast<std::size_t>(getpagesize());
}

/// A vCPU whose ring has this one entry logged.
kvm::Fd vcpu_with(const kvm_dirty_gfn& entry, std::size_t entries) {
    kvm::Fd vcpu = make_vcpu_descriptor(entries);
    const auto offset = static_cast<off_t>(KVM_DIRTY_LOG_PAGE_OFFSET * page_bytes());
    EXPECT_EQ(pwrite(vcpu.get(), &entry, sizeof(entry), offset), ssize_t{sizeof(entry)});
    return vcpu;
}

void expect_the_entry(const Ring& ring) {
    const Ring::Batch batch = ring.peek();
    ASSERT_EQ(batch.size(), 1U);
    EXPECT_EQ(batch[0].slot, 3U);
    EXPECT_EQ(batch[0].offset, 70U);
}

constexpr kvm_dirty_gfn logged = {.flags = KVM_DIRTY_GFN_F_DIRTY, .slot = 3, .offset = 70};

TEST(RingMap, HasTheSizeThatTheVcpuWasGivenAndBeginsAtTheFirstEntry) {
    for (const std::uint32_t entries : {256U, 4096U, 65536U}) {
        const kvm::Vcpu vcpu = kvm::Vcpu::adopt(vcpu_with(logged, entries), 0, entries);
        const Ring ring = must(Ring::map(vcpu));
        EXPECT_EQ(ring.size(), entries);
        expect_the_entry(ring);
    }
}

TEST(RingMap, AVcpuWithoutARingIsToldHowToGetOne) {
    const Result<Ring> none = Ring::map(kvm::Vcpu::adopt(make_vcpu_descriptor(256)));
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().code, ENXIO);
    EXPECT_EQ(none.error().operation, "Ring::map");
    EXPECT_NE(none.error().remedy.find("enable_dirty_ring"), std::string::npos);
}

TEST(RingAdopt, FindsOutTheSizeAndBeginsAtTheFirstEntry) {
    for (std::uint32_t entries = 256; entries <= 1U << 20; entries *= 2) {
        const Ring ring = must(Ring::adopt(vcpu_with(logged, entries)));
        EXPECT_EQ(ring.size(), entries);
        expect_the_entry(ring);
        EXPECT_EQ(ring.fill(), 1U);  // looks into the middle of it
    }
}

// Only where each size could end is asked, and a ring of unheard-of size is taken for the largest.
TEST(RingAdopt, AsksForOnePageOfEachSize) {
    faulty::Faults faults;
    must(Ring::adopt(make_vcpu_descriptor(256)));
    EXPECT_EQ(faults.calls(faulty::Call::madvise), 2U);
    must(Ring::adopt(make_vcpu_descriptor(1024)));
    EXPECT_EQ(faults.calls(faulty::Call::madvise), 2U + 4U);
    EXPECT_EQ(must(Ring::adopt(make_vcpu_descriptor(1 << 21))).size(), 1U << 20);
}

TEST(RingAdopt, AVcpuWithoutARingIsToldHowToGetOne) {
    const Result<Ring> none = Ring::adopt(make_vcpu_descriptor(0));
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().code, ENXIO);
    EXPECT_EQ(none.error().operation, "Ring::adopt");
    EXPECT_NE(none.error().remedy.find("KVM_CAP_DIRTY_LOG_RING_ACQ_REL"), std::string::npos);
}

TEST(RingAdopt, AKernelThatCannotTellTheSizeSaysSo) {
    faulty::Faults faults;
    faults.fail_next(faulty::Call::madvise, EINVAL);  // as before Linux 5.14
    const Result<Ring> old = Ring::adopt(make_vcpu_descriptor());
    ASSERT_FALSE(old);
    EXPECT_EQ(old.error().code, EINVAL);
    EXPECT_NE(old.error().remedy.find("Linux 5.14"), std::string::npos);

    faults.fail_next(faulty::Call::madvise, ENOMEM, 1);
    const Result<Ring> other = Ring::adopt(make_vcpu_descriptor());
    ASSERT_FALSE(other);
    EXPECT_EQ(other.error().code, ENOMEM);
    EXPECT_EQ(other.error().remedy, "");
    EXPECT_EQ(faults.mappings(), 0);
}

}  // namespace
}  // namespace dirtyring
