// SPDX-License-Identifier: MIT
//
// Tracking by dirty rings: all rings of one VM, harvested and reset together.
//
//     RingSource source(vm_fd, memory);
//     source.add(std::move(ring));                // for each vCPU, at any time
//     source.ring_full(number);                   // vCPU's thread, on KVM_EXIT_DIRTY_RING_FULL
//     source.collect(std::move(storage));         // any thread, whenever the pages are wanted
//
// Loss. A kernel that pushes past the end of a full ring overwrites entries and then logs at
// another place than the reader expects (docs/caveats.md). That is found out; the ring is then not
// read until the reader has found its place again, with the vCPU stopped, at one of the next calls
// of ring_full. The next collect, and each that finds something logged in a ring that cannot be
// read, says "everything" and toggles the logging of all slots, so that every page is armed again.
// The guest never hangs on it.
//
// Suspects. A reset that a signal cuts short (SIGKILL, SIGSTOP: no other gets through) leaves up to
// 64 pages writable, and the kernel does not say which: the pages that were to be reset then are
// suspects. They are in every collect until rearm_suspects has armed them again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "dirtyring/dirty_log.hpp"
#include "dirtyring/harvest.hpp"
#include "dirtyring/measure.hpp"
#include "dirtyring/source/source.hpp"

namespace dirtyring {

class RearmPlan;

/// Whether the VM has a dirty bitmap beside its rings.
enum class RingBackup {
    none,
    /// Vm::enable_dirty_ring_bitmap: for what KVM writes while no vCPU runs. Without
    /// KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2.
    bitmap
};

/// What has happened on one ring since it was added.
struct RingStatistics {
    std::uint64_t entries = 0;  ///< read
    std::uint64_t fresh = 0;    ///< of these, first of their page in their collect, over all rings
    std::uint64_t full_exits = 0;    ///< calls of ring_full
    std::uint64_t overruns = 0;      ///< times that entries were or may have been lost
    std::uint64_t lost = 0;          ///< entries known to be lost
    std::uint32_t largest_fill = 0;  ///< most entries found at once
    /// Spent in ring_full, with the vCPU out of the guest.
    std::uint64_t stopped_nanoseconds = 0;
    MovingRate rate;  ///< of entries, as of the last time that rings were read
};

/// What has happened on a whole VM.
struct RingSourceStatistics {
    std::uint64_t collects = 0;
    std::uint64_t everything = 0;  ///< collects that had to say "everything"
    /// Harvests whose reset ended early (ResetReport::short_return).
    std::uint64_t short_resets = 0;
    std::uint64_t suspects = 0;  ///< pages that are dirty in each collect for that reason, now
    std::uint64_t stale = 0;     ///< entries that named no page
    Histogram harvest;           ///< reading all rings, each time
    Histogram reset;             ///< KVM_RESET_DIRTY_RINGS for all of them, each time
};

/// All calls from any thread at any time, one after the other by a mutex inside; only construction
/// and destruction are the caller's to order. No call waits for a vCPU.
class RingSource final : public Source {
  public:
    /// Borrows the VM's descriptor. `map` holds the slots that are logged, each plain RAM with
    /// KVM_MEM_LOG_DIRTY_PAGES and no other flag.
    RingSource(const kvm::Fd& vm, const MemoryMap& map, RingBackup backup = RingBackup::none);
    ~RingSource() override;

    /// Takes a vCPU's ring over; gives its number, which no other ring gets. From here on only this
    /// object reads it.
    std::size_t add(Ring ring);
    /// Gives the ring of a vCPU up that will not run again. Its last entries are part of the next
    /// collect, its statistics stay. Errors: ENOENT (there is no such ring, or no longer), those of
    /// KVM_RESET_DIRTY_RINGS; the ring is then still there.
    Result<void> remove(std::size_t number, VcpuStopped);

    /// Harvests and resets all rings and then, with RingBackup::bitmap, reads the bitmap of every
    /// slot, which costs the size of memory. Errors: those of KVM_RESET_DIRTY_RINGS, of
    /// KVM_SET_USER_MEMORY_REGION after a loss, and of DirtyLog::read.
    [[nodiscard]] Result<Pages> collect(DirtySet storage) override;
    void set_memory(const MemoryMap& map, AllVcpusStopped) override;
    [[nodiscard]] MemoryMap memory() const override;
    [[nodiscard]] RingSource* rings() noexcept override { return this; }

    /// A hot page is armed again in the entry of another page, so as they come; where none come, by
    /// rearm_suspects.
    void keep_hot(std::uint64_t most) override;
    void set_hot_costs(const HotPageCosts& costs) override;
    void found_clean(const DirtySet& pages) override;
    [[nodiscard]] std::uint64_t hot() const override;

    /// Arms the suspects again, and the hot pages where that is worth it, by turning the logging of
    /// their slots off and on; call it when a collect has been made since the vCPUs were stopped,
    /// which then has what they wrote. Errors: those of
    /// KVM_SET_USER_MEMORY_REGION; the next collect then says "everything" and arms all slots.
    Result<void> rearm_suspects(AllVcpusStopped);

    /// Harvests and resets all rings; the pages are part of the next collect. Called often enough,
    /// by a thread of its own, it keeps rings from filling while the vCPUs run. Errors: those of
    /// KVM_RESET_DIRTY_RINGS.
    Result<void> drain();

    /// For the thread of the vCPU whose KVM_RUN has just returned a RingFullExit, once for each:
    /// harvests, resets, and brings a ring that has lost entries back into step, so that the next
    /// KVM_RUN goes on, or the one after a few more such exits. `number` is what add gave. Without
    /// such an exit it must not be called: two calls with nothing logged in between mean that the
    /// kernel has run ahead. It waits for one harvest and reset of another thread at the most, and
    /// makes none of its own where that has emptied the ring. Errors: those of
    /// KVM_RESET_DIRTY_RINGS; ENOTRECOVERABLE where the kernel calls the ring full and takes
    /// nothing from it: it is another vCPU's, or something else reads it.
    Result<void> ring_full(std::size_t number);

    /// Entries logged at this moment in the fullest ring (Ring::fill), for a thread that drains
    /// before one is full and no sooner: each drain re-arms pages, which then fault again.
    [[nodiscard]] std::uint32_t fill() const;
    /// Entries that the smallest ring has room for; 0 where there is no ring.
    [[nodiscard]] std::uint32_t entries() const;
    /// Entries that one vCPU's kernel has logged since its ring was added, read or not; 0 for a
    /// number that add never gave.
    [[nodiscard]] std::uint64_t logged(std::size_t number) const;

    /// Rings that were added, those removed since among them: their numbers are below this.
    [[nodiscard]] std::size_t size() const;
    /// Of one ring; nothing for a number that add never gave.
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
        std::optional<Ring> ring;  // none: removed
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
    [[nodiscard]] Result<void> make_room(Reader& reader);
    [[nodiscard]] Result<void> rearm(std::size_t place) const;
    Result<void> rearm_all();
    void suspect_hot_pages();

    mutable std::mutex mutex_;
    kvm::Vm vm_;
    ResetHandle handle_;
    Harvest pending_;
    std::unique_ptr<RearmPlan> plan_;
    std::optional<DirtyLog> backup_;
    std::vector<Reader> readers_;
    bool loss_ = false;  // the next collect cannot tell what was written
    DirtySet suspects_;
    double rearm_nanoseconds_ = 2e5;  // a slot's logging off and on; measured
    RingSourceStatistics statistics_;
};

}  // namespace dirtyring
