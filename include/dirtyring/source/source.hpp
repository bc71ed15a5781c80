// SPDX-License-Identifier: MIT
//
// One way of tracking, seen from its user: what was written since the last time?
#pragma once

#include <cstdint>

#include "dirtyring/dirty_set.hpp"
#include "dirtyring/error.hpp"
#include "dirtyring/pages.hpp"

namespace dirtyring {

class RingSource;

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

    /// From now on it is over the slots of `map`, as the kernel is. No vCPU has run since the last
    /// collect, nor does before this returns; what was gathered and not collected is kept where its
    /// page is still there. Any thread, one at a time.
    virtual void set_memory(const MemoryMap& map, AllVcpusStopped) = 0;

    /// The slots that it is over. Any thread, one at a time.
    [[nodiscard]] virtual MemoryMap memory() const = 0;

    // Hot pages: written in most collects anyway, and so left writable on purpose. Such a page is
    // in every collect, written or not, and costs the guest no fault. Which ones are is found out
    // as it goes, from what a page costs either way; docs/hot-pages.md. A source that cannot leave
    // pages writable has none. Any thread, one call at a time.

    /// At most so many pages are hot at a time; 0, as at first: none.
    virtual void keep_hot(std::uint64_t most) { static_cast<void>(most); }
    virtual void set_hot_costs(const HotPageCosts& costs) { static_cast<void>(costs); }
    /// All pages of the last collect, over the same slots, that nobody had written after all: those
    /// that are hot are armed again as soon as may be, and none needs to be tried.
    virtual void found_clean(const DirtySet& pages) { static_cast<void>(pages); }
    /// Pages that are hot now.
    [[nodiscard]] virtual std::uint64_t hot() const { return 0; }

    /// Itself, where it reads rings: vCPUs then have more to ask of it. Any thread.
    [[nodiscard]] virtual RingSource* rings() noexcept { return nullptr; }
};

}  // namespace dirtyring
