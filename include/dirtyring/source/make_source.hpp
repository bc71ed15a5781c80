// SPDX-License-Identifier: MIT
//
// Which source a VM is tracked by: what its kernel offers decides, or the caller.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "dirtyring/kvm/fd.hpp"
#include "dirtyring/memory.hpp"
#include "dirtyring/probe.hpp"
#include "dirtyring/source/source.hpp"

namespace dirtyring {

struct SourceOptions {
    /// Nothing: rings where there are any, with a bitmap beside them where the kernel has that
    /// (arm64), else the bitmap, manually protected if possible.
    std::optional<Tracking> way = std::nullopt;
    /// Of each vCPU's ring (Vm::enable_dirty_ring); 0: as many as the kernel allows.
    std::uint32_t ring_entries = 0;
};

struct ChosenSource {
    std::unique_ptr<Source> source;
    Tracking way = Tracking::ring;
    std::string why;  ///< one sentence
};

/// Turns on what that way of tracking needs, on a VM that has no vCPU yet (for rings with a bitmap:
/// no memory slot either), and makes a source over the slots of `memory`, each of them logged
/// (KVM_MEM_LOG_DIRTY_PAGES); none is fine, Tracker::change_slots adds them. Borrows the VM's
/// descriptor. Any thread, not while another makes a vCPU. Errors: EOPNOTSUPP (the kernel does not
/// have the way that is asked for), those of Vm::enable_dirty_ring, Vm::enable_dirty_ring_bitmap
/// and KVM_ENABLE_CAP.
[[nodiscard]] Result<ChosenSource> make_source(const kvm::Fd& vm, const MemoryMap& memory,
                                               const SourceOptions& options = {});

}  // namespace dirtyring
