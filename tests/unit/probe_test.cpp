// SPDX-License-Identifier: MIT
//
// Which way of tracking is recommended on hosts that have more or less of it.
#include "dirtyring/probe.hpp"

#include <gtest/gtest.h>

#include <cerrno>

#include "fake_kvm.hpp"
#include "must.hpp"

namespace dirtyring {
namespace {

/// A host's KVM: what it has, and what it refuses.
struct Host {
    int ring_bytes = 0;
    int acq_rel_bytes = 0;
    int with_bitmap = 0;
    int manual_protect = 0;
    std::uint64_t least_ring_bytes = 4096;
    bool has_bitmap = true;
};

HostFacilities probe_host(const Host& host) {
    faulty::Faults faults;
    faults.on_other_ioctls([&](int fd, unsigned long request, void* argument) {
        switch (request) {
            case KVM_CHECK_EXTENSION:
                // SAFETY: this request's argument is a number and is not followed.
                switch (reinterpret_cast<std::uintptr_t>(argument)) {
                    case KVM_CAP_DIRTY_LOG_RING:
                        return host.ring_bytes;
                    case kvm::abi::cap_dirty_log_ring_acq_rel:
                        return host.acq_rel_bytes;
                    case kvm::abi::cap_dirty_log_ring_with_bitmap:
                        return host.with_bitmap;
                    case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
                        return host.manual_protect;
                    default:
                        return 0;
                }
            case KVM_ENABLE_CAP: {
                // SAFETY: this request's argument is a kvm_enable_cap.
                const auto& cap = *static_cast<const kvm_enable_cap*>(argument);
                const bool ring = cap.cap == KVM_CAP_DIRTY_LOG_RING ||
                                  cap.cap == kvm::abi::cap_dirty_log_ring_acq_rel;
                return ring && cap.args[0] < host.least_ring_bytes ? -EINVAL : 0;
            }
            case KVM_GET_DIRTY_LOG:
                return host.has_bitmap ? 0 : -ENXIO;
            default:
                return agreeable_kernel(fd, request, argument);
        }
    });
    return must(probe(kvm::System::adopt(make_descriptor())));
}

const TrackingSupport& of(const HostFacilities& host, Tracking way) {
    return host.tracking.at(static_cast<std::size_t>(way));
}

TEST(ProbeChoice, TheRingWhereThereIsOne) {
    const HostFacilities host = probe_host({.ring_bytes = 1 << 20, .manual_protect = 3});
    EXPECT_EQ(host.recommended, Tracking::ring);
    EXPECT_TRUE(of(host, Tracking::ring).usable);
    EXPECT_TRUE(of(host, Tracking::bitmap).usable);
    EXPECT_TRUE(of(host, Tracking::manual_bitmap).usable);
    EXPECT_FALSE(of(host, Tracking::ring_with_bitmap).usable);
    EXPECT_NE(of(host, Tracking::ring_with_bitmap).why_not.find("WITH_BITMAP"), std::string::npos);
    EXPECT_EQ(host.vm.largest_ring(), 65'536U);
    EXPECT_EQ(host.least_ring, 256U);
}

TEST(ProbeChoice, TheRingWithItsBitmapWhereTheKernelHasBoth) {
    const HostFacilities host = probe_host({.acq_rel_bytes = 1 << 20, .with_bitmap = 1});
    EXPECT_EQ(host.recommended, Tracking::ring_with_bitmap);
    EXPECT_EQ(host.vm.largest_ring(), 65'536U);
}

TEST(ProbeChoice, AHostWithPmlWantsRingsOf1024) {
    const HostFacilities host =
        probe_host({.acq_rel_bytes = 1 << 20, .least_ring_bytes = 16 * 1024});
    EXPECT_EQ(host.least_ring, 1024U);
    EXPECT_TRUE(of(host, Tracking::ring).usable);
}

TEST(ProbeChoice, ARingThatIsOfferedAndNeverTakenIsNotUsable) {
    const HostFacilities host = probe_host({.acq_rel_bytes = 1 << 16, .least_ring_bytes = 1 << 20});
    EXPECT_EQ(host.least_ring, 0U);
    EXPECT_FALSE(of(host, Tracking::ring).usable);
    EXPECT_NE(of(host, Tracking::ring).why_not.find("4096 entries"), std::string::npos)
        << of(host, Tracking::ring).why_not;
    EXPECT_EQ(host.recommended, Tracking::bitmap);
}

TEST(ProbeChoice, TheManualBitmapWithoutARing) {
    const HostFacilities host = probe_host({.manual_protect = 1});
    EXPECT_EQ(host.recommended, Tracking::manual_bitmap);
    EXPECT_EQ(host.vm.largest_ring(), 0U);
    EXPECT_NE(of(host, Tracking::ring).why_not.find("no dirty ring"), std::string::npos);
    EXPECT_NE(of(host, Tracking::ring).why_not.find("5.11"), std::string::npos);
    EXPECT_EQ(of(host, Tracking::ring_with_bitmap).why_not, of(host, Tracking::ring).why_not);
}

TEST(ProbeChoice, ThePlainBitmapWhereThereIsNothingElse) {
    const HostFacilities host = probe_host({});
    EXPECT_EQ(host.recommended, Tracking::bitmap);
    EXPECT_NE(of(host, Tracking::manual_bitmap).why_not.find("MANUAL_DIRTY_LOG_PROTECT2"),
              std::string::npos);
}

TEST(ProbeChoice, NothingWhereNothingWorks) {
    const HostFacilities host = probe_host({.has_bitmap = false});
    EXPECT_FALSE(host.recommended);
    EXPECT_FALSE(host.recommended_why.empty());
    EXPECT_NE(of(host, Tracking::bitmap).why_not.find("KVM_GET_DIRTY_LOG"), std::string::npos);
}

TEST(ProbeChoice, AHostWithLargerPagesIsRefused) {
    faulty::Faults faults;
    faults.on_other_ioctls(agreeable_kernel);
    faults.set_page_size(65'536);
    const Result<HostFacilities> host = probe(kvm::System::adopt(make_descriptor()));
    ASSERT_FALSE(host);
    EXPECT_EQ(host.error().code, EOPNOTSUPP);
    EXPECT_NE(host.error().message().find("pages of 65536 bytes"), std::string::npos);
}

}  // namespace
}  // namespace dirtyring
