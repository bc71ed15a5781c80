// SPDX-License-Identifier: MIT
//
// Tracking by dirty rings: all rings of one VM, harvested and reset together.
//
//     RingSource source(vm_fd, memory);
//     source.add(std::move(ring));                // for each vCPU; numbered in this order
//     source.ring_full(number);                   // vCPU's thread, on KVM_EXIT_DIRTY_RING_FULL
//     source.collect(std::move(storage));         // any thread, whenever the pages are wanted
//
// Loss. A kernel that pushes past the end of a full ring overwrites entries and then logs at
// another place than the reader expects (docs/caveats.md). That is found out; the ring is then not
// read until the reader has found its place again, with the vCPU stopped, at one of the next calls
// of ring_full. The next collect, and each that finds something logged in a ring that cannot be
// read, says "everything" and toggles the logging of all slots, so that every page is armed again.
// The guest never hangs on it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "dirtyring/harvest.hpp"
#include "dirtyring/source/source.hpp"

namespace dirtyring {

/// What has happened on one ring since it was added.
struct RingStatistics {
    std::uint64_t entries = 0;  ///< read
    std::uint64_t fresh = 0;    ///< of these, first of their page in their collect, over all rings
    std::uint64_t full_exits = 0;    ///< calls of ring_full
    std::uint64_t overruns = 0;      ///< times that entries were or may have been lost
    std::uint64_t lost = 0;          ///< entries known to be lost
    std::uint32_t largest_fill = 0;  ///< most entries found at once
};

/// What has happened on a whole VM.
struct RingSourceStatistics {
    std::uint64_t collects = 0;
    std::uint64_t everything = 0;  ///< collects that had to say "everything"
    std::uint64_t short_resets =
        0;                    ///< harvests whose reset ended early (ResetReport::short_return)
    std::uint64_t stale = 0;  ///< entries that named no page
    std::uint64_t harvest_nanoseconds = 0;  ///< spent reading rings
    std::uint64_t reset_nanoseconds = 0;    ///< spent in KVM_RESET_DIRTY_RINGS
};

/// All calls from any thread at any time, one after the other by a mutex inside; only construction
/// and destruction are the caller's to order. No call waits for a vCPU.
class RingSource final : public Source {
  public:
    /// Borrows the VM's descriptor. `map` holds the slots that are logged, each plain RAM with
    /// KVM_MEM_LOG_DIRTY_PAGES and no other flag.
    RingSource(const kvm::Fd& vm, const MemoryMap& map);

    /// Takes a vCPU's ring over; gives its number. From here on only this object reads it.
    std::size_t add(Ring ring);
    [[nodiscard]] std::size_t rings() const;

    [[nodiscard]] Result<Pages> collect(DirtySet storage) override;

    /// Harvests and resets all rings; the pages are part of the next collect. Called often enough,
    /// by a thread of its own, it keeps rings from filling while the vCPUs run. Errors: those of
    /// KVM_RESET_DIRTY_RINGS.
    Result<void> drain();

    /// For the thread of the vCPU whose KVM_RUN has just returned a RingFullExit, once for each:
    /// harvests, resets, and brings a ring that has lost entries back into step, so that the next
    /// KVM_RUN goes on, or the one after a few more such exits. `number` is what add gave. Without
    /// such an exit it must not be called: two calls with nothing logged in between mean that the
    /// kernel has run ahead. Errors: those of KVM_RESET_DIRTY_RINGS; ENOTRECOVERABLE where the
    /// kernel calls the ring full and takes nothing from it: it is another vCPU's, or something
    /// else reads it.
    Result<void> ring_full(std::size_t number);

    /// Entries logged at this moment in the fullest ring (Ring::fill), for a thread that drains
    /// before one is full and no sooner: each drain re-arms pages, which then fault again.
    [[nodiscard]] std::uint32_t fill() const;

    [[nodiscard]] RingStatistics statistics(std::size_t number) const;
    [[nodiscard]] RingSourceStatistics statistics() const;

  private:
    /// Whether the reader is where the kernel logs next.
    enum class Step {
        in,    ///< it is: the kernel's next entry will stand at the reader's index
        lost,  ///< the kernel has run past it, and may stand anywhere
        blank  ///< the same, but every entry has been read since, with the vCPU stopped
    };
    struct Reader {
        Ring ring;
        RingStatistics statistics;
        Step step = Step::in;
        std::uint32_t unreset = 0;  // entries released and not known to have been reset
        // statistics.entries when ring_full last left this ring empty and reset; no_mark otherwise.
        std::uint64_t empty_mark = no_mark;
    };
    static constexpr std::uint64_t no_mark = ~std::uint64_t{0};

    // With mutex_ held:
    std::uint32_t take(Reader& reader);
    void harvest();
    Result<void> settle();
    Result<void> harvest_and_settle();
    void find_step(Reader& reader, VcpuStopped stopped);
    Result<std::uint32_t> reset_offered() const;
    Result<std::uint32_t> align_reset(Reader& reader, VcpuStopped stopped);
    Result<void> push_on(Reader& reader, VcpuStopped stopped);
    Result<void> rearm_all() const;

    mutable std::mutex mutex_;
    kvm::Vm vm_;
    ResetHandle handle_;
    Harvest pending_;
    std::vector<Reader> readers_;
    bool loss_ = false;  // the next collect cannot tell what was written
    RingSourceStatistics statistics_;
};

}  // namespace dirtyring
