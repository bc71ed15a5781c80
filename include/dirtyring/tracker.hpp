// SPDX-License-Identifier: MIT
//
// Which pages of a VM have changed, for as many who ask as there are.
//
//     Tracker tracker(std::move(make_source(vm_fd, {})->source));
//     tracker.change_slots(AllVcpusStopped(), make_slots);  // KVM's, and the map's to match
//     const std::size_t vcpu = *tracker.add_vcpu(vcpu_fd);
//     Consumer saver = tracker.add_consumer();
//
//     tracker.ring_full(vcpu);                       // vCPU's thread, on KVM_EXIT_DIRTY_RING_FULL
//     tracker.mark(address, bytes);                  // whoever has written guest memory himself
//
//     Result<Epoch> epoch = saver.collect();         // what changed since the last collect
//     epoch->pages().for_each_run(save);
//     epoch->commit();                               // or not, and the next epoch has them again
//
// Caveats, before anything else:
//  - A consumer begins with nothing changed. Take the full copy after add_consumer.
//  - Mark a page after it has been written, not before: a collect in between would take the mark
//    and leave the write.
//  - An epoch may say everything() at any time: the kernel has lost entries (docs/caveats.md).
//    Copy or compare all pages then.
//  - With vCPUs running a page that is read may be newer than its epoch says, never older: the next
//    epoch has it again. For a state of memory that existed as a whole stop the vCPUs (pause.hpp).
//
// Tracker, Consumer and Epoch may go in any order; the VM's descriptor and its memory outlive all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "dirtyring/error.hpp"
#include "dirtyring/kvm/fd.hpp"
#include "dirtyring/memory.hpp"
#include "dirtyring/pages.hpp"
#include "dirtyring/ring.hpp"
#include "dirtyring/source/source.hpp"
#include "dirtyring/statistics.hpp"

namespace dirtyring {

class Consumer;
class Epoch;

/// Every call from any thread at any time, unless it says otherwise.
class Tracker {
  public:
    class State;

    /// Over the slots that the source is over. Rings that it has already are vCPUs, with their
    /// numbers.
    explicit Tracker(std::unique_ptr<Source> source);
    Tracker(Tracker&&) noexcept = default;
    Tracker& operator=(Tracker&&) noexcept = default;
    Tracker(const Tracker&) = delete;
    Tracker& operator=(const Tracker&) = delete;
    ~Tracker();

    /// One more who is told each changed page once, from now on, at his own pace. Pages that were
    /// written before, and that nobody has collected since, are in his first epoch too.
    [[nodiscard]] Consumer add_consumer();

    // vCPUs ---------------------------------------------------------------------------------------

    /// A vCPU that has not run yet; gives its number, which no other gets. With rings its ring is
    /// mapped and from now on read here only; with a bitmap there is nothing to do. Borrows the
    /// descriptor for this call. Errors: those of Ring::adopt.
    Result<std::size_t> add_vcpu(const kvm::Fd& vcpu);
    /// The same with a ring that has been mapped already. Errors: EINVAL (the source has no rings).
    Result<std::size_t> add_vcpu(Ring ring);
    /// A vCPU that will not run again. What it wrote is part of the next epochs, its statistics
    /// stay. Errors: ENOENT (no such vCPU, or no longer), those of KVM_RESET_DIRTY_RINGS; the vCPU
    /// is then still there.
    Result<void> remove_vcpu(std::size_t vcpu, VcpuStopped);
    /// Numbers of the vCPUs that are there. Waits for no collect.
    [[nodiscard]] std::vector<std::size_t> vcpus() const;

    /// For the thread of the vCPU whose KVM_RUN has just returned KVM_EXIT_DIRTY_RING_FULL, once
    /// for each: makes room, so that the next KVM_RUN goes on. It never waits for a consumer, and
    /// for one harvest and reset at the most. Errors: as RingSource::ring_full; EINVAL (the source
    /// has no rings).
    Result<void> ring_full(std::size_t vcpu);
    /// Reads all rings before they fill; the pages are part of the next epochs. Nothing to do with
    /// a bitmap. A Reaper does it. Errors: those of KVM_RESET_DIRTY_RINGS.
    Result<void> drain();

    /// Lets up to so many pages that are written in most epochs anyway stay writable: they cost the
    /// guest no fault, and are in every epoch, written or not (docs/hot-pages.md). 0, as at first:
    /// none. For who collects after each short run of the guest and does little with a page, as a
    /// reset to a snapshot does. Sources that cannot do it go on as they are.
    void keep_hot(std::uint64_t most);

    // Memory that the host writes -----------------------------------------------------------------

    /// Says that these bytes of guest memory, `bytes` from a guest-physical address on, have been
    /// written by other means than a vCPU: by a store, read(), a device. After the write. Pages
    /// outside of all slots are counted (Statistics::marks_outside) and nothing else. Lock-free;
    /// never waits. Address space 1 is SMM's on x86-64.
    void mark(std::uint64_t guest_address, std::uint64_t bytes,
              std::uint32_t address_space = 0) noexcept;
    /// The same for a bitmap from elsewhere, as vhost and VFIO give it: bit i of word n says that
    /// page 64 * n + i was written, counted from the page of `guest_address`. Lock-free.
    void mark_bitmap(std::uint64_t guest_address, std::span<const std::uint64_t> bitmap,
                     std::uint32_t address_space = 0) noexcept;

    // Slots ---------------------------------------------------------------------------------------

    /// Changes memory slots: first collects what is pending for the old ones, then calls `change`,
    /// which tells KVM and edits the map accordingly, and goes on with the map as it was left,
    /// whether `change` failed or not. Pages that are still there (same slot id, host memory, guest
    /// address and MemoryMap::file_offset) stay dirty for those who have not collected them, those
    /// of a slot that goes are forgotten: who wants them collects first. All others are dirty for
    /// every consumer: of new slots, what a slot has grown by, and all of a slot that has moved, be
    /// it in guest memory or, since one before it in slots() has gone or has another size, in a
    /// file. So whoever saves by either has no page where it no longer is.
    /// What `change` itself writes at a slot's new address is dirty with the rest of the slot; who
    /// marks it all the same does so after this has returned.
    /// All slots are logged (KVM_MEM_LOG_DIRTY_PAGES). `change` must not call this object, but for
    /// mark, nor end an epoch of its consumers. No vCPU runs from before this until it returns.
    /// Errors: those of Source::collect, before anything was changed; what `change` returns.
    Result<void> change_slots(AllVcpusStopped,
                              const std::function<Result<void>(MemoryMap& slots)>& change);
    /// The slots, as they are now.
    [[nodiscard]] MemoryMap memory() const;

    // ---------------------------------------------------------------------------------------------

    [[nodiscard]] Statistics statistics() const;
    /// Adds to the time that a vCPU has been kept out of the guest for the sake of tracking. Waits
    /// for no collect.
    void note_stopped(std::size_t vcpu, std::uint64_t nanoseconds);

    /// The source that it was made with; not to be collected from beside it.
    [[nodiscard]] Source& source() const noexcept;

  private:
    std::shared_ptr<State> state_;
};

/// What one vCPU's ring told between two collects of a consumer. 0 with a bitmap.
struct VcpuCounts {
    std::uint64_t entries = 0;  ///< read from its ring
    /// Of these, first of their page since a collect by any consumer, over all rings.
    std::uint64_t distinct = 0;
    std::uint64_t full_exits = 0;  ///< KVM_EXIT_DIRTY_RING_FULL
    std::uint64_t overruns = 0;    ///< times that entries were or may have been lost
    std::uint64_t lost = 0;        ///< entries known to be lost
};

/// Who is told what changed. Move-only; collect from one thread at a time, others at any time. When
/// it goes, nothing is kept for it any longer.
class Consumer {
  public:
    struct State;

    Consumer(Consumer&&) noexcept = default;
    /// What this was goes, as by its destructor.
    Consumer& operator=(Consumer&& other) noexcept;
    Consumer(const Consumer&) = delete;
    Consumer& operator=(const Consumer&) = delete;
    ~Consumer();

    /// The pages that have changed since the last collect, and those of epochs that were not
    /// committed; each is armed again, so a later write is in a later epoch. vCPUs may run. Once
    /// as many epochs have been open at a time as ever are, nothing is allocated. Errors: those of
    /// Source::collect; nothing is lost then.
    [[nodiscard]] Result<Epoch> collect();
    /// The same while no vCPU runs, from before the call on: nothing is underway then, so what the
    /// pages hold is the state of one moment, and suspects are armed again. Errors: also those of
    /// RingSource::rearm_suspects; nothing is lost then either, and a sequence number is used up.
    [[nodiscard]] Result<Epoch> collect(AllVcpusStopped);

  private:
    friend class Tracker;
    Consumer(std::shared_ptr<Tracker::State> tracker, std::shared_ptr<State> state) noexcept
        : tracker_(std::move(tracker)), state_(std::move(state)) {}

    std::shared_ptr<Tracker::State> tracker_;
    std::shared_ptr<State> state_;
};

/// What changed between two collects of a consumer: a transaction. Committed, its pages are the
/// consumer's affair; aborted, dropped or lost in a failure, they are in the next epoch again.
/// Move-only; one thread at a time.
class Epoch {
  public:
    Epoch(Epoch&& other) noexcept;
    Epoch& operator=(Epoch&& other) noexcept;
    Epoch(const Epoch&) = delete;
    Epoch& operator=(const Epoch&) = delete;
    /// Aborts it, unless it has been ended.
    ~Epoch();

    /// 1 for a consumer's first collect, then one more each time; a collect that failed to arm
    /// suspects again has had one too.
    [[nodiscard]] std::uint64_t sequence() const noexcept { return sequence_; }
    /// The pages, which may be read: as a set, as runs, as a bitmap of a slot
    /// (SlotPages::copy_bitmap); whether they are everything, and how many are suspects. Empty once
    /// the epoch has been ended.
    [[nodiscard]] const Pages& pages() const noexcept { return pages_; }
    /// By vCPU number. Entries that a thread reads while a collect is under way may be counted in
    /// the epoch before that of their page.
    [[nodiscard]] std::span<const VcpuCounts> vcpus() const noexcept { return vcpus_; }

    /// Ends it: its pages have been dealt with.
    void commit() noexcept;
    /// The same, and says which of them nobody had written after all, over the slots that the epoch
    /// is over: hot pages among them are let go (Tracker::keep_hot).
    void commit(const DirtySet& clean) noexcept;
    /// Tells the other consumers that the host has written all of the epoch's pages, or is going to
    /// before it ends: each finds them in his next epoch, this one does not. A reset does that.
    void rewrite();
    /// Ends it: its pages are in the consumer's next epoch again.
    void abort() noexcept;

  private:
    friend class Tracker::State;
    Epoch(std::shared_ptr<Tracker::State> tracker, std::shared_ptr<Consumer::State> consumer,
          std::uint64_t sequence, Pages pages, std::vector<VcpuCounts> vcpus) noexcept;
    void end(bool committed, const DirtySet* clean) noexcept;

    std::shared_ptr<Tracker::State> tracker_;  // null: ended
    std::shared_ptr<Consumer::State> consumer_;
    std::uint64_t sequence_;
    Pages pages_;
    std::vector<VcpuCounts> vcpus_;
};

}  // namespace dirtyring
