// SPDX-License-Identifier: MIT
//
// One way of tracking, seen from its user: what was written since the last time?
#pragma once

#include <cstdint>

#include "dirtyring/dirty_set.hpp"
#include "dirtyring/error.hpp"
#include "dirtyring/pages.hpp"

namespace dirtyring {

/// What a page costs in nanoseconds, above 0.
struct HotPageCosts {
    double armed = 3000;  ///< in a round in which it is written: a fault, and being armed again
    double use = 200;     ///< what is done with each dirty page
};

class Source {
  public:
    virtual ~Source() = default;

    /// The pages written since the last collect, each re-armed: a later write is reported by a
    /// later collect. vCPUs may run. `storage` is any set: with Pages::recycle() of an earlier
    /// collect nothing is allocated, with {} a new one is. Errors: those of the ioctls that the
    /// source makes; what was gathered until then is kept for the next try. Any thread, one at a
    /// time.
    [[nodiscard]] virtual Result<Pages> collect(DirtySet storage) = 0;
};

}  // namespace dirtyring
