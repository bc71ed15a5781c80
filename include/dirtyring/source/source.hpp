// SPDX-License-Identifier: MIT
//
// One way of tracking, seen from its user: what was written since the last time?
#pragma once

#include "dirtyring/error.hpp"
#include "dirtyring/pages.hpp"

namespace dirtyring {

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
