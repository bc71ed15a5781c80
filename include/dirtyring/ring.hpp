// SPDX-License-Identifier: MIT
//
// One vCPU's dirty ring (api.rst 8.29).
//
// Caveats, before anything else:
//  - A page named here may be written again, unlogged, until KVM_RESET_DIRTY_RINGS has taken its
//    entry. Read a page's content only after that reset, or while every vCPU is stopped. Harvest
//    and ResetHandle (harvest.hpp) make the wrong order fail to compile; at this level it is the
//    caller's duty.
//  - A ring has one reader at a time. The vCPU may run meanwhile: reader and kernel meet only in
//    the flags.
//  - Some kernels push past the end of a full ring and lose entries ("overrun", docs/caveats.md).
//    A sweep that gives exactly size() entries, or RING_FULL with nothing to peek at, is the sign;
//    RingSource cures it.
#pragma once

#include <linux/kvm.h>

#include <atomic>
#include <cstdint>
#include <span>

#include "dirtyring/error.hpp"
#include "dirtyring/kvm/mapping.hpp"
#include "dirtyring/kvm/vcpu.hpp"

namespace dirtyring {

/// A page that the kernel has logged.
struct RingEntry {
    std::uint32_t slot;    ///< address space << 16 | slot id
    std::uint64_t offset;  ///< page number inside the slot: not a guest frame number
};

/// Says that the vCPU whose ring is meant is not in KVM_RUN and will not enter it before the call
/// is over.
struct VcpuStopped {
    explicit VcpuStopped() = default;
};

/// Move-only. All calls from one thread at a time, the reader; which thread that is may change,
/// with the caller's own synchronisation (a mutex, a join).
class Ring {
  public:
    class Batch;

    // Map a vCPU's ring once: a new Ring reads from the first place on, and the kernel goes on
    // where it was. One that has been read before is out of step from the start (out_of_step).

    /// Maps the ring of a vCPU whose VM has rings (Vm::enable_dirty_ring), with its true size.
    /// Errors: ENXIO (the VM has no rings, or the vCPU was adopted without their size: use adopt),
    /// mmap's own.
    [[nodiscard]] static Result<Ring> map(const kvm::Vcpu& vcpu);
    /// Maps the ring of a vCPU that somebody else made, finding its true size first: mmap accepts
    /// any size and vCPUs without a ring, and touching what is not there raises SIGBUS, so the
    /// pages are asked for with MADV_POPULATE_READ (Linux 5.14), which answers EFAULT instead. The
    /// descriptor is not kept. Errors: ENXIO (no ring), EINVAL (a kernel without
    /// MADV_POPULATE_READ; not a vCPU), mmap's own.
    [[nodiscard]] static Result<Ring> adopt(const kvm::Fd& vcpu);
    /// Reads a ring in memory that somebody else holds for as long as this object is used.
    /// Errors: EINVAL (its size is not a power of two).
    [[nodiscard]] static Result<Ring> over(std::span<kvm_dirty_gfn> entries);

    /// Entries that the ring has room for.
    [[nodiscard]] std::uint32_t size() const noexcept { return mask_ + 1; }

    /// Shows the logged entries from the reader's index on, at most `most` and at most size().
    /// Peeking again without a release shows the same and perhaps more.
    [[nodiscard]] Batch peek(std::uint32_t most = ~std::uint32_t{0}) const noexcept;
    /// Gives the first `count` entries of the last peek back to the kernel, which takes them at the
    /// next KVM_RESET_DIRTY_RINGS. `count` is at most that batch's size.
    void release(std::uint32_t count) noexcept;
    /// Peek and release in one pass: calls use(RingEntry) for each logged entry from the reader's
    /// index on, at most size(), each released by then; gives how many. For readers that let every
    /// entry be re-armed as it is.
    template <typename Use>
    std::uint32_t consume(Use&& use) noexcept;

    /// How many entries are logged and not released. Costs a few loads, whatever the number: the
    /// kernel logs in order, so the end is found by halving. The vCPU may run. Of a ring that is
    /// out of step it is some number up to size().
    [[nodiscard]] std::uint32_t fill() const noexcept;
    /// True where peek shows nothing and yet an entry is logged further ahead: the kernel has run
    /// past the end of a full ring and is out of step with the reader. Reads the whole ring. The
    /// vCPU may run.
    [[nodiscard]] bool out_of_step() const noexcept;
    /// True where the entry released last has not been taken by a reset. The vCPU may run.
    [[nodiscard]] bool reset_pending() const noexcept;

    // What a cure after an overrun is made of; see RingSource::ring_full for its order. The kernel
    // must not be pushing, hence the token. Places that are offered name a slot that does not
    // exist: the kernel takes them without touching any page.

    /// Goes to where the logged entries begin: the next one with none right before it. Gives how
    /// many places it passed, which are neither read nor released; 0 where nothing is logged, or
    /// everything.
    std::uint32_t skip_to_logged(VcpuStopped) noexcept;
    /// Releases the next `count` places, none of which is logged, and goes past them. At most
    /// size().
    void offer_ahead(std::uint32_t count, VcpuStopped) noexcept;
    /// Releases the `count` places before the index again, none of which is logged. Below size(),
    /// so that a reset that has come as far as the index takes none of them.
    void offer_behind(std::uint32_t count, VcpuStopped) noexcept;
    /// Takes back those of offer_behind's places that a reset left; gives how many it took.
    std::uint32_t withdraw_behind(std::uint32_t count, VcpuStopped) noexcept;

  private:
    Ring(kvm::Mapping mapping, std::span<kvm_dirty_gfn> entries) noexcept;

    /// `bytes` is the ring's true size.
    static Result<Ring> map_bytes(const kvm::Fd& vcpu, std::size_t bytes);

    // The whole handshake of reader and kernel is in the first and the last of these.
    [[nodiscard]] static std::uint32_t load_flags(kvm_dirty_gfn& entry) noexcept;
    [[nodiscard]] static RingEntry load_page(kvm_dirty_gfn& entry) noexcept;
    static void store_flags(kvm_dirty_gfn& entry, std::uint32_t flags) noexcept;
    [[nodiscard]] kvm_dirty_gfn& at(std::uint32_t index) const noexcept {
        return entries_[index & mask_];
    }
    /// Places from the index to the first logged entry; size() where there is none.
    [[nodiscard]] std::uint32_t distance_to_logged() const noexcept;
    void offer_nothing(std::uint32_t index) noexcept;

    kvm::Mapping mapping_;  // empty for over()
    kvm_dirty_gfn* entries_;
    std::uint32_t mask_;
    std::uint32_t index_ = 0;  // of the next entry to read; wraps at 2^32, a multiple of every size
};

/// What a peek saw: entries that stay as they are until they are released. Valid until then.
class Ring::Batch {
  public:
    [[nodiscard]] std::uint32_t size() const noexcept { return count_; }
    [[nodiscard]] bool empty() const noexcept { return count_ == 0; }

    /// Entry `i`, below size(). Each word is read once: a kernel that overruns may write it at this
    /// moment.
    [[nodiscard]] RingEntry operator[](std::uint32_t i) const noexcept {
        return load_page(entries_[(first_ + i) & mask_]);
    }
    /// Lets entry `i` carry another page to the reset, which reads slot and offset only then. So a
    /// batch may be re-armed in another order, or a page left writable. An entry that names no page
    /// must name a slot that does not exist, such as no_slot: an offset past the end of a real slot
    /// would drop the up to 63 neighbours that share its lock round in the kernel
    /// (virt/kvm/dirty_ring.c, kvm_reset_dirty_gfn).
    void rewrite(std::uint32_t i, RingEntry with) const noexcept {
        kvm_dirty_gfn& entry = entries_[(first_ + i) & mask_];
        // SAFETY: as in operator[]; until release the kernel does not read this entry, and
        // release's store-release publishes these words with the flags.
        std::atomic_ref(entry.slot).store(with.slot, std::memory_order_relaxed);
        std::atomic_ref(entry.offset).store(with.offset, std::memory_order_relaxed);
    }

    /// A slot id that no VM can have (KVM_USER_MEM_SLOTS is below 32,767), in address space 0.
    static constexpr std::uint32_t no_slot = 0xffff;

  private:
    friend class Ring;
    Batch(kvm_dirty_gfn* entries, std::uint32_t mask, std::uint32_t first,
          std::uint32_t count) noexcept
        : entries_(entries), mask_(mask), first_(first), count_(count) {}

    kvm_dirty_gfn* entries_;
    std::uint32_t mask_;
    std::uint32_t first_;
    std::uint32_t count_;
};

inline std::uint32_t Ring::load_flags(kvm_dirty_gfn& entry) noexcept {
    // SAFETY: the flag word is aligned and inside the mapping. Acquire pairs with the kernel's
    // release when it sets DIRTY (kvm_dirty_gfn_set_dirtied): slot and offset, written before, are
    // visible once this is seen.
    return std::atomic_ref(entry.flags).load(std::memory_order_acquire);
}

inline RingEntry Ring::load_page(kvm_dirty_gfn& entry) noexcept {
    // SAFETY: both words lie in the ring's mapping, aligned for their size, for as long as the Ring
    // lives. Relaxed is enough: the acquire of this entry's flags already orders them after the
    // kernel's writes.
    return {std::atomic_ref(entry.slot).load(std::memory_order_relaxed),
            std::atomic_ref(entry.offset).load(std::memory_order_relaxed)};
}

inline void Ring::store_flags(kvm_dirty_gfn& entry, std::uint32_t flags) noexcept {
    // SAFETY: as in load_flags. Release pairs with the kernel's acquire in its reset
    // (kvm_dirty_gfn_harvested): our reads and rewrites of slot and offset are over before the
    // kernel may take the entry and, later, write a new page into it.
    std::atomic_ref(entry.flags).store(flags, std::memory_order_release);
}

inline Ring::Batch Ring::peek(std::uint32_t most) const noexcept {
    const std::uint32_t limit = most < size() ? most : size();
    std::uint32_t count = 0;
    // Exactly DIRTY: an entry with RESET beside it is one that this reader has released.
    while (count < limit && load_flags(at(index_ + count)) == KVM_DIRTY_GFN_F_DIRTY) {
        ++count;
    }
    return {entries_, mask_, index_, count};
}

template <typename Use>
std::uint32_t Ring::consume(Use&& use) noexcept {
    std::uint32_t taken = 0;
    while (taken < size()) {
        // In stretches up to the end of the ring's memory, so that moving on is one addition.
        kvm_dirty_gfn* const first = &at(index_);
        const std::uint32_t to_end = size() - (index_ & mask_);
        const std::uint32_t to_take = size() - taken;
        kvm_dirty_gfn* const end = first + (to_take < to_end ? to_take : to_end);
        kvm_dirty_gfn* entry = first;
        for (; entry != end && load_flags(*entry) == KVM_DIRTY_GFN_F_DIRTY; ++entry) {
            const RingEntry copy = load_page(*entry);
            store_flags(*entry, KVM_DIRTY_GFN_F_RESET);
            use(copy);
        }
        const auto count = static_cast<std::uint32_t>(entry - first);
        index_ += count;
        taken += count;
        if (entry != end) {
            break;
        }
    }
    return taken;
}

inline void Ring::release(std::uint32_t count) noexcept {
    for (std::uint32_t i = 0; i < count; ++i) {
        store_flags(at(index_ + i), KVM_DIRTY_GFN_F_RESET);
    }
    index_ += count;
}

}  // namespace dirtyring
