// SPDX-License-Identifier: MIT
#include "dirtyring/kvm/fd.hpp"

#include "../sys.hpp"

namespace dirtyring::kvm {

Fd::~Fd() {
    if (owned_ && number_ >= 0) {
        // A KVM descriptor holds nothing unwritten, and Linux frees the number whatever close
        // answers.
        static_cast<void>(sys::close(number_));
    }
}

}  // namespace dirtyring::kvm
