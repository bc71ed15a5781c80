// SPDX-License-Identifier: MIT
//
// What the models of sources and of the tracker share: calls that faults may be ordered for, and a
// vCPU whose ring is full.
#pragma once

#include <rapidcheck.h>

#include <cstddef>
#include <functional>
#include <string>

#include "dirtyring/error.hpp"
#include "faulty_sys.hpp"

namespace dirtyring {

/// Whether it succeeded; a failure that was not ordered fails the test.
template <typename T>
bool succeeded(const Result<T>& result, const faulty::Faults& faults) {
    if (!result && !faults.failed()) {
        RC_FAIL(result.error().message());
    }
    return result.has_value();
}

/// Full exits of a vCPU until `full_exit` says that it runs on.
inline void exit_until_it_runs_on(std::size_t vcpu, const std::function<bool()>& full_exit) {
    // The most that an overrun leaves to be caught up with is 6 times what one exit catches up.
    constexpr int most_exits = 20;
    for (int attempt = 0; attempt < most_exits; ++attempt) {
        if (full_exit()) {
            return;
        }
    }
    RC_FAIL("vCPU " + std::to_string(vcpu) + " does not run on after " +
            std::to_string(most_exits) + " full exits");
}

}  // namespace dirtyring
