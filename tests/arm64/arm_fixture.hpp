// SPDX-License-Identifier: MIT
#pragma once

#include "arm_vm.hpp"
#include "kvm_fixture.hpp"

namespace dirtyring::arm64 {

/// A test on arm64's rings; skipped, with the reason, where KVM or what the test needs of it is not
/// there.
class ArmTest : public KvmTest {
  protected:
    void SetUp() override {
        KvmTest::SetUp();
        if (!IsSkipped() && !has(kvm::abi::cap_dirty_log_ring_with_bitmap)) {
            GTEST_SKIP() << "this kernel's KVM has no dirty ring with a bitmap (Linux 6.2)";
        }
    }

    /// A source over all rings of a VM.
    static void add_rings(RingSource& source, const ArmVm& vm, std::uint32_t vcpus) {
        for (std::uint32_t vcpu = 0; vcpu < vcpus; ++vcpu) {
            source.add(vm.map_ring(vcpu));
        }
    }
};

}  // namespace dirtyring::arm64
