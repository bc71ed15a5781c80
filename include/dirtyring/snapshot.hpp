// SPDX-License-Identifier: MIT
//
// A guest as it was at one moment, and the way back to it, again and again, at the cost of the
// pages that were written in between.
//
//     Result<Snapshot> snapshot = Snapshot::take(tracker, {&vm, {{&vcpu, &run.raw()}}},
//                                                 AllVcpusStopped());
//     for (;;) {
//         put_input_into(guest_memory);
//         tracker.mark(input_address, input_bytes);  // what the host writes, it says
//         run_until_done(vcpu);
//         snapshot->restore(AllVcpusStopped());
//     }
//
// Caveats, before anything else:
//  - A vCPU whose last exit user space has to answer is in the middle of an instruction; see
//    guest_state.hpp for what to do before take and before restore.
//  - Memory that the host writes without Tracker::mark stays as it is.
//  - What lies outside of the VM (files, sockets, devices in user space) is the caller's.
//  - Snapshots of one VM, nested ones too, are one thread's at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dirtyring/error.hpp"
#include "dirtyring/kvm/fd.hpp"
#include "dirtyring/kvm/mapping.hpp"
#include "dirtyring/ring.hpp"
#include "dirtyring/tracker.hpp"

#if defined(__x86_64__)
#include "dirtyring/guest_state.hpp"

namespace dirtyring {

/// What belongs to the guest beside the memory that its tracker is over. Borrowed for as long as
/// the snapshot lives.
struct GuestParts {
    const kvm::Vm* vm = nullptr;  ///< null: what vCPUs share is not part of it
    /// Those whose registers are.
    struct Vcpu {
        const kvm::Vcpu* vcpu = nullptr;
        /// Its kvm_run: registers are then left there for the next KVM_RUN, which is faster; see
        /// VcpuState::restore for what that means. Null: all is written at once.
        kvm_run* run = nullptr;
    };
    // NOLINTNEXTLINE(readability-redundant-member-init)
    std::vector<Vcpu> vcpus = {};
};

struct SnapshotOptions {
    StateOptions state = {};
    /// Where the copy of memory lives: a memfd, a file or one in hugetlbfs, empty, which is made as
    /// large as memory and is used by nobody else. Nothing: a memfd. Pages of zeroes stay holes.
    std::optional<kvm::Fd> image = std::nullopt;
    /// Pages left writable (Tracker::keep_hot); 0: none.
    std::uint64_t hot_pages = 65536;
    /// Told at most every 64 MiB how many bytes of memory have been copied.
    std::function<void(std::uint64_t done, std::uint64_t total)> progress = nullptr;
    /// Asked for each page that restore finds dirty, by its guest-physical address and its content
    /// in the snapshot: gives what the page is to hold, 4,096 bytes (`content`, or others, such as
    /// a page with breakpoints in it), or null for a page that is to stay as it is.
    std::function<const std::byte*(std::uint64_t guest_address, const std::byte* content)> replace =
        nullptr;
};

/// What one restore has done.
struct RestoreReport {
    std::uint64_t pages = 0;    ///< that may have been written
    std::uint64_t changed = 0;  ///< of these, found different
    std::uint64_t hot = 0;      ///< pages that are left writable now
    bool everything = false;    ///< all of memory was compared, after a loss (docs/caveats.md)
    /// Reading what was written, arming it again, and ending the epoch.
    std::uint64_t collect_nanoseconds = 0;
    std::uint64_t copy_nanoseconds = 0;
    std::uint64_t state_nanoseconds = 0;  ///< registers of the vCPUs, and what they share
};

/// Move-only. Its tracker must not be moved and outlives it.
class Snapshot {
  public:
    /// Copies all of memory that is not zero, and reads the state of the parts. No vCPU runs from
    /// before this until it returns. Errors: those of Consumer::collect, of VcpuState::take and
    /// VmState::take, of memfd_create, ftruncate and mmap.
    [[nodiscard]] static Result<Snapshot> take(Tracker& tracker, GuestParts parts,
                                               AllVcpusStopped stopped,
                                               SnapshotOptions options = {});
    /// A second snapshot on top of this one, of what the guest is now: it copies only the pages
    /// that were written since this one. Either can be restored at any time; the inner one can be
    /// dropped, and this one too. Errors: as take.
    [[nodiscard]] Result<Snapshot> take_nested(AllVcpusStopped stopped);

    Snapshot(Snapshot&&) noexcept;
    Snapshot& operator=(Snapshot&&) noexcept;
    Snapshot(const Snapshot&) = delete;
    Snapshot& operator=(const Snapshot&) = delete;
    ~Snapshot();

    /// Memory and state are as they were when it was taken. No vCPU runs from before this until it
    /// returns. After an error some pages or registers are as they were and some are not; a second
    /// try may be made. Errors: those of Consumer::collect, VcpuState::restore and
    /// VmState::restore; EINVAL (the memory slots are not those of then).
    Result<RestoreReport> restore(AllVcpusStopped stopped);

    /// Compares all memory and state with the snapshot, as it should be right after a restore:
    /// nothing, or a sentence that names what is different first. Pages that `replace` answers
    /// for are not compared, nor is time. Errors: those of VcpuState::take and VmState::take.
    [[nodiscard]] Result<std::string> verify(AllVcpusStopped) const;

    /// Memory for another VM, as the snapshot has it: all slots end to end in their order
    /// (MemoryMap::file_offset), copy on write, and shared with the snapshot until it is written.
    /// Errors: EINVAL (a nested snapshot), mmap's own.
    [[nodiscard]] Result<kvm::Mapping> map_memory() const;
    /// A snapshot for that other VM, whose slots are the same over the memory of map_memory, and
    /// whose vCPUs are as many: puts the state into them, and shares the copy of memory. It may
    /// then be used by another thread, and outlive this one. Errors: EINVAL (a nested snapshot, or
    /// other slots or vCPUs), those of Consumer::collect, VcpuState::restore and VmState::restore.
    [[nodiscard]] Result<Snapshot> clone_to(Tracker& tracker, GuestParts parts,
                                            AllVcpusStopped stopped) const;

  private:
    struct State;
    explicit Snapshot(std::unique_ptr<State> state) noexcept;

    std::unique_ptr<State> state_;
};

}  // namespace dirtyring

#endif
