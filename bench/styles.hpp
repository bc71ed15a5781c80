// SPDX-License-Identifier: MIT
//
// The other ways of reading a dirty ring that harvest_bench compares with. Each follows what its
// model does for an entry, step by step, in our own words; none is that program's code.
#pragma once

#include <linux/kvm.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "dirtyring/memory.hpp"

namespace dirtyring::bench {

/// One bit a page, for each slot of a MemoryMap: what both models below keep.
class FlatBitmaps {
  public:
    explicit FlatBitmaps(const MemoryMap& map);

    /// By slot id, address space 0.
    [[nodiscard]] std::vector<std::uint64_t>& of(std::size_t slot) noexcept { return words_[slot]; }
    /// A slot or page that does not exist is left out, as safe Rust code would have to.
    void set(std::size_t slot, std::uint64_t offset) noexcept {
        if (slot < words_.size() && offset / 64 < words_[slot].size()) {
            words_[slot][offset / 64] |= std::uint64_t{1} << (offset % 64);
        }
    }
    [[nodiscard]] std::uint64_t count() const noexcept;
    void clear() noexcept;

  private:
    std::vector<std::vector<std::uint64_t>> words_;
};

/// QEMU's reaper (accel/kvm/kvm-all.c, as of 10.x: kvm_dirty_ring_reap_one and what it calls). For
/// each entry: the index modulo the ring's size, which is a variable; a load-acquire of the flags;
/// the address space, then the slot in its table; the offset against the slot's size divided by the
/// host's page size, which it asks the C library for; a bit in the slot's bitmap; a store-release
/// of the flags; and a test whether tracing is on. It keeps no count of distinct pages.
class QemuStyle {
  public:
    QemuStyle(std::span<kvm_dirty_gfn> ring, const MemoryMap& map);

    std::uint32_t harvest();
    [[nodiscard]] FlatBitmaps& pages() noexcept { return bitmaps_; }

  private:
    struct Slot {
        std::uint64_t start_address;
        std::uint64_t memory_size;
        void* ram;
        int slot;
        int flags;
        int old_flags;
        std::uint64_t* dirty_bitmap;
        std::uint64_t dirty_bitmap_size;
        int address_space;
        std::uint64_t ram_start_offset;
    };
    struct Listener {
        Slot* slots;
        int address_space;
    };
    struct AddressSpace {
        Listener* listener;
        void* address_space;
    };
    struct State {
        std::uint32_t address_spaces;
        AddressSpace* spaces;
        std::uint32_t ring_size;
    };

    static void mark_page(const State& state, std::uint32_t space, std::uint32_t slot,
                          std::uint64_t offset);

    FlatBitmaps bitmaps_;
    std::vector<Slot> slots_;
    Listener listener_;
    AddressSpace space_;
    State state_;
    kvm_dirty_gfn* ring_;
    std::uint32_t fetch_index_ = 0;
};

/// The ring of the kvm-ioctls crate as proposed (rust-vmm/kvm, pull request 344): an iterator. For
/// each entry: an acquire fence; the whole entry copied out by a volatile read; a test of its DIRTY
/// bit; the whole entry, RESET toggled, copied back by a volatile write; a release fence. The
/// fences are there if the VM was made with the ACQ_REL capability, which is asked for each entry.
/// What the user of the iterator does is ours: the bit in a slot's bitmap, both indices checked as
/// Rust does.
class KvmIoctlsStyle {
  public:
    KvmIoctlsStyle(std::span<kvm_dirty_gfn> ring, const MemoryMap& map);

    std::uint32_t harvest();
    [[nodiscard]] FlatBitmaps& pages() noexcept { return bitmaps_; }

  private:
    struct Item {
        bool some;
        std::uint32_t slot;
        std::uint64_t offset;
    };
    Item next() noexcept;

    FlatBitmaps bitmaps_;
    kvm_dirty_gfn* ring_;
    std::uint64_t next_dirty_ = 0;
    std::uint64_t mask_;
    bool use_acq_rel_ = true;
};

/// The least that reading a ring can cost: each entry's flags and words are loaded and its flags
/// stored, and nothing is kept but a sum.
class BareLoop {
  public:
    explicit BareLoop(std::span<kvm_dirty_gfn> ring) : ring_(ring) {}

    std::uint32_t harvest();
    [[nodiscard]] std::uint64_t sum() const noexcept { return sum_; }

  private:
    std::span<kvm_dirty_gfn> ring_;
    std::uint64_t sum_ = 0;
};

/// The least for who keeps a bitmap: the same, and a bit for each page of the only slot that there
/// is. Nothing is checked and nothing counted, so it stands for no safe reader: it is the limit.
class BareBitmap {
  public:
    /// `pages` is how many the slot has.
    BareBitmap(std::span<kvm_dirty_gfn> ring, std::uint64_t pages)
        : ring_(ring), words_(pages / 64 + 1) {}

    std::uint32_t harvest();
    void clear() noexcept;

  private:
    std::span<kvm_dirty_gfn> ring_;
    std::vector<std::uint64_t> words_;
};

}  // namespace dirtyring::bench
