// SPDX-License-Identifier: MIT
//
// An ioctl number made from another struct is refused: this is how a wrong kernel header is found
// out.
#include "dirtyring/kvm/abi.hpp"
#include "dirtyring/kvm/ioctl.hpp"

#ifdef MISUSE
constexpr dirtyring::kvm::RequestOf<kvm_regs> request{KVM_GET_SREGS, "KVM_GET_SREGS"};
#else
constexpr dirtyring::kvm::RequestOf<kvm_sregs> request{KVM_GET_SREGS, "KVM_GET_SREGS"};
#endif

unsigned long use() {
    return request.number;
}
