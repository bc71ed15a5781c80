// SPDX-License-Identifier: MIT
//
// Read the rings, then re-arm, then look at the pages: in this order, because another does not
// compile.
//
//     Harvest harvest(memory);                                   // no pages can be read here
//     harvest.take(ring);                                        // entries read and released
//     Result<Pages> pages = handle.reset(std::move(harvest));    // re-armed: now there are pages
//     pages->for_each_run([](const PageRun& run) { save(run.guest_address(), run.host()); });
//
// A page read before the reset could be written again without being logged, and that write would be
// lost.
#pragma once

#include <cstdint>
#include <utility>

#include "dirtyring/dirty_log.hpp"
#include "dirtyring/error.hpp"
#include "dirtyring/kvm/fd.hpp"
#include "dirtyring/kvm/vm.hpp"
#include "dirtyring/pages.hpp"
#include "dirtyring/ring.hpp"

namespace dirtyring {

/// Pages that have been read from rings and not yet been re-armed. Move-only in spirit: one owner,
/// one thread at a time.
class Harvest {
  public:
    explicit Harvest(const MemoryMap& map) : set_(map) {}
    /// Uses the storage of a set that is done with, over the slots that it has: nothing is
    /// allocated.
    explicit Harvest(DirtySet recycled) noexcept : set_(std::move(recycled)) { set_.clear(); }

    /// The slots whose pages it can hold; entries of others are stale.
    [[nodiscard]] const MemoryMap& memory() const noexcept { return set_.memory(); }

    /// Goes on over other slots: pages that are still there are kept (DirtySet::merge_over), and so
    /// is what is to be reset.
    void set_memory(const MemoryMap& map);

    /// Changes its storage for `storage`, an empty set over the same slots, unless there is
    /// something in it already.
    void use(DirtySet& storage) noexcept {
        if (set_.empty() && set_.stale() == 0) {
            std::swap(set_, storage);
        }
    }

    /// Reads and releases what `ring` has logged, at most one ring's worth, so that a ring that is
    /// filled as fast as it is read ends too; gives how many entries. A whole ring's worth says
    /// that the kernel may have lost some (an overrun). The vCPU may run. The ring's reader calls
    /// this.
    std::uint32_t take(Ring& ring) noexcept;
    /// The same, and adds to `fresh` how many of the pages the harvest did not have yet.
    std::uint32_t take(Ring& ring, std::uint64_t& fresh) noexcept;
    /// The same, but the entries go through `plan`: plan(const Ring::Batch&, DirtySet&) adds their
    /// pages to the set, may rewrite them (Ring::Batch::rewrite), and is called once. Pages that
    /// the batch does not name afterwards are not armed again.
    template <typename Plan>
    std::uint32_t take_by(Ring& ring, Plan&& plan) {
        const Ring::Batch batch = ring.peek();
        plan(batch, set_);
        ring.release(batch.size());
        unreset_ += batch.size();
        return batch.size();
    }
    /// Adds what the bitmap beside the rings has logged (Vm::enable_dirty_ring_bitmap), which
    /// reading re-arms: after the rings, so that the harvest has all that was logged before.
    /// Errors: those of DirtyLog::read; the harvest keeps what was read until then.
    Result<void> take(DirtyLog& log) { return log.read(set_); }

    /// Entries released and not yet reset: what ResetHandle has to reach.
    [[nodiscard]] std::uint64_t unreset() const noexcept { return unreset_; }
    /// Entries that named no slot or a page past the end of theirs.
    [[nodiscard]] std::uint64_t stale() const noexcept { return set_.stale(); }

    /// The pages before their reset. Sound only while every vCPU of the VM is stopped, from before
    /// the take to after both the reading and the reset: the token is the caller's word for it.
    [[nodiscard]] const DirtySet& pages(AllVcpusStopped) const noexcept { return set_; }
    /// Adds the pages to a set over the same slots that is not to be read yet either.
    void copy_to(DirtySet& to) const noexcept { to.merge(set_); }

  private:
    friend class ResetHandle;

    DirtySet set_;
    std::uint64_t unreset_ = 0;
    bool partly_reset_ = false;  // a reset took some of them and left some
};

/// What the resets of one harvest were like.
struct ResetReport {
    std::uint64_t entries = 0;  ///< that the kernel took, of all rings of the VM
    std::uint32_t calls = 0;    ///< of KVM_RESET_DIRTY_RINGS
    /// A call ended early. From Linux 6.17 on a pending signal does that, and up to 64 pages of the
    /// batch that was under way are then not re-armed. ResetHandle blocks all signals that can be
    /// blocked; SIGKILL and SIGSTOP cannot.
    bool short_return = false;
    /// Released entries that the kernel did not take although nothing interrupted it: its place in
    /// a ring is behind the reader's, after an overrun, or somebody else resets the same rings.
    std::uint64_t missing = 0;

    /// True where some page may not be re-armed, so that its next write would go unlogged: re-arm
    /// all memory (toggle KVM_MEM_LOG_DIRTY_PAGES of every slot) and take every page as dirty.
    /// RingSource does.
    [[nodiscard]] bool suspect() const noexcept { return short_return || missing != 0; }
};

/// KVM_RESET_DIRTY_RINGS done right. vCPUs may run meanwhile. The kernel's count is for all rings
/// of the VM together, so a VM has one harvest under way at a time: take from its rings, reset, and
/// only then begin the next. Two at once would each see entries as missing that the other's call
/// took. One thread at a time.
class ResetHandle {
  public:
    /// Borrows the VM's descriptor.
    explicit ResetHandle(const kvm::Fd& vm) noexcept : vm_(vm.ref()) {}

    /// Re-arms every page of `harvest`: calls KVM_RESET_DIRTY_RINGS, all signals blocked, until as
    /// many entries have been reset as were released. The pages stay in the harvest, still not to
    /// be read. Errors: EINVAL (the VM has no rings), EBADF; the harvest then keeps its pages and
    /// what is still to be reset, for the next try.
    Result<ResetReport> settle(Harvest& harvest) const;

    /// settle(), and the pages, which may be read from now on. After a suspect report the pages are
    /// everything, and all memory must be re-armed before they are read (ResetReport::suspect;
    /// RingSource does that by itself). Errors: as settle.
    Result<Pages> reset(Harvest&& harvest, ResetReport* report = nullptr) const;

    /// One KVM_RESET_DIRTY_RINGS with all signals blocked; gives the number of entries. Errors: as
    /// settle.
    Result<std::uint32_t> reset_once() const;

  private:
    kvm::Fd vm_;
};

}  // namespace dirtyring
