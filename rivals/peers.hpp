// SPDX-License-Identifier: MIT
//
// How two snapshot fuzzers find out what a guest has written. Each class does what its model does,
// step by step, in our own words; none is that program's code. A round: collect, for_each, done,
// while the vCPU stands still.
#pragma once

#include <linux/kvm.h>
#include <tsl/robin_set.h>

#include <cstdint>
#include <vector>

#include "dirtyring/error.hpp"
#include "dirtyring/kvm/mapping.hpp"
#include "machine/machine.hpp"

namespace dirtyring::bench {

/// QEMU-Nyx (nyx/snapshot/memory/backend/nyx_dirty_ring.c). Each slot has a bitmap and a stack: for
/// each entry of the ring, plain accesses, a test of its bit, and if that is new the page goes on
/// the stack; KVM_RESET_DIRTY_RINGS once, whose count must be that of the entries. Its user walks
/// the stacks, and the bits are cleared one by one.
class NyxStyle {
  public:
    /// For a machine of one vCPU with a ring, which outlives it. Errors: those of mmap.
    [[nodiscard]] static Result<NyxStyle> create(machine::Machine& machine);

    Result<void> collect();
    /// Calls use(address) with the guest-physical address of each page.
    template <typename Use>
    void for_each(Use&& use) const {
        for (const Slot& slot : slots_) {
            for (std::uint64_t i = 0; i < slot.stacked; ++i) {
                use(slot.base + slot.stack[i] * page_size);
            }
        }
    }
    Result<void> done();

  private:
    struct Slot {
        std::uint64_t base = 0;  // guest-physical
        std::vector<std::uint64_t> bitmap;
        std::vector<std::uint64_t> stack;  // as large as the slot has pages
        std::uint64_t stacked = 0;
    };

    NyxStyle(machine::Machine& machine, kvm::Mapping ring);
    void note(std::uint32_t slot, std::uint64_t page);

    int vm_;
    kvm::Mapping mapping_;
    kvm_dirty_gfn* ring_;
    std::uint32_t mask_;
    std::uint32_t index_ = 0;
    std::vector<Slot> slots_;  // by slot id
};

/// What the set of WtfStyle holds of a page.
enum class WtfKey {
    /// Its address, as wtf has it. The set takes a number's low bits for its place, and those of
    /// addresses of pages are all 0: the pages pile up on one place for each 4,096 of its size.
    address,
    /// Its number, which has them apart: wtf as it would be without that.
    page
};

/// wtf (src/wtf/kvm_backend.cc, KvmBackend_t::Restore). For each slot KVM_GET_DIRTY_LOG, then each
/// word of the bitmap, each bit of a word that is not 0, and each page into a robin_set, the very
/// one that wtf uses; its user walks the set; for each slot KVM_CLEAR_DIRTY_LOG of all of it; the
/// set is cleared.
class WtfStyle {
  public:
    /// For a machine with the manually protected bitmap, which outlives it.
    WtfStyle(machine::Machine& machine, WtfKey key);

    Result<void> collect();
    /// As NyxStyle's.
    template <typename Use>
    void for_each(Use&& use) const {
        for (const std::uint64_t key : dirty_) {
            use(key << shift_);
        }
    }
    Result<void> done();

  private:
    struct Region {
        std::uint32_t slot;
        std::uint64_t base;  // guest-physical
        std::uint64_t pages;
        std::vector<std::uint64_t> bitmap;
    };

    int vm_;
    unsigned shift_;  // from a key to an address
    std::vector<Region> regions_;
    tsl::robin_set<std::uint64_t> dirty_;
};

}  // namespace dirtyring::bench
