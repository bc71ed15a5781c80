// SPDX-License-Identifier: MIT
//
// A fixture: rings of the fake kernel whose source may leave pages writable (docs/hot-pages.md).
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>

#include "ring_vm.hpp"

namespace dirtyring::fake {

// The second slot is in the other address space, and not a multiple of 64 pages.
constexpr std::uint32_t high = 1U << 16 | 3U;

/// Two vCPUs, hot pages allowed.
class HotRings : public ::testing::Test {
  protected:
    HotRings() {
        source_.keep_hot(100);
        // One that does not come back. Where all do, each page is hot at once, whatever it costs.
        vm_.store(1, 0, 800);
        vm_.collect();
        vm_.collect();
    }

    void store(const PageList& pages) {
        for (const auto& [slot, page] : pages) {
            vm_.store(0, slot, page);
        }
    }
    /// Writes the pages in two rounds, which makes up to seven of them hot. No others become so.
    void heat(const PageList& pages) {
        source_.set_hot_costs({.armed = 3000, .use = 200});
        for (int round = 0; round < 2; ++round) {
            store(pages);
            vm_.collect();
        }
        source_.set_hot_costs({.armed = 1, .use = 1e9});
    }
    /// Entries that have no page of their own to arm, as they name none: they are free to carry
    /// others.
    void free_entries(unsigned count) {
        for (; count != 0; --count) {
            kernel_.push(1, 9, 0);
        }
    }
    void found_clean(const PageList& pages) {
        DirtySet clean(kernel_.memory());
        for (const auto& [slot, page] : pages) {
            clean.insert(slot, page);
        }
        source_.found_clean(clean);
    }
    /// What the first `count` entries of vCPU 0 say when the kernel comes to reset them.
    PageList offered_by_collect(std::size_t count) {
        PageList offered;
        kernel_.during_reset(0, [&] {
            for (const kvm_dirty_gfn& entry : kernel_.ring(0).first(count)) {
                offered.emplace_back(entry.slot, entry.offset);
            }
        });
        vm_.collect();
        return offered;
    }
    void expect_exact_and_armed() {
        EXPECT_EQ(vm_.lost(), PageList());
        EXPECT_EQ(vm_.unarmed(), PageList());
        vm_.store(1, 0, 77);
        const Collected next = vm_.collect();
        EXPECT_EQ(next.pages, (PageList{{0, 77}}));
        EXPECT_FALSE(next.everything);
    }

    RingVm vm_{{.vcpus = 2, .entries = 256, .slots = {{0, 1024}, {high, 1000}}}};
    RingSource& source_ = vm_.source;
    fake::Kernel& kernel_ = vm_.kernel;
};

}  // namespace dirtyring::fake
