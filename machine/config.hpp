// SPDX-License-Identifier: MIT
//
// What a machine is made from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dirtyring/error.hpp"

namespace dirtyring::machine {

inline constexpr std::uint32_t max_vcpus = 32;
inline constexpr std::uint64_t min_memory = std::uint64_t{8} << 20;
inline constexpr std::uint64_t max_memory = std::uint64_t{64} << 30;
/// Guest memory is mapped in pages of this size; its size is a multiple of it.
inline constexpr std::uint64_t memory_granule = std::uint64_t{2} << 20;

struct Config {
    /// 1 to max_vcpus, and no more than the host's KVM allows.
    std::uint32_t vcpus = 1;
    /// Bytes of guest memory: min_memory to max_memory, a multiple of memory_granule. It costs the
    /// host nothing before it is touched.
    std::uint64_t memory = std::uint64_t{64} << 20;
    /// Entries of each vCPU's dirty ring (Vm::enable_dirty_ring); 0 for none.
    std::uint32_t ring_entries = 0;
    /// KVM_MEM_LOG_DIRTY_PAGES on all of guest memory, from the start. Neither ring nor bitmap has
    /// anything to say without it.
    bool log_dirty = false;
    /// KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, without KVM_DIRTY_LOG_INITIALLY_SET. Not together with a
    /// ring.
    bool manual_protect = false;
    /// Asks for huge host pages (MADV_HUGEPAGE); otherwise memory is backed 4 KiB at a time.
    bool huge_pages = false;
    /// The privilege level at which the guest is entered: 3, or 0 for guests that want to be the
    /// kernel.
    int privilege = 3;
    /// guest_abi::Info::rounds: the guest ends after so many rounds; 0: it goes on until stopped.
    std::uint64_t rounds = 0;
    /// guest_abi::Info::params, by name: at most 16, names up to 31 bytes, values up to 95.
    // Said so that {.vcpus = 2} does not warn of a missing initializer.
    // NOLINTNEXTLINE(readability-redundant-member-init)
    std::vector<std::pair<std::string, std::string>> params = {};
    /// Guest memory that has all in it already, as that of a clone has (Snapshot::map_memory):
    /// `memory` bytes, which outlive the machine and are taken as they are. The program is loaded
    /// nowhere then, and says only where vCPUs start. Empty: memory of the machine's own.
    // NOLINTNEXTLINE(readability-redundant-member-init)
    std::span<std::byte> filled = {};
};

/// A guest program as read from a file: an ELF64 executable if it begins with the ELF magic,
/// otherwise a flat binary, which is placed at guest_abi::link_address and entered at its first
/// byte.
struct Program {
    std::string_view name;  ///< for error messages: the file's path
    std::span<const std::byte> file;
};

/// What the guest's vCPUs have to say. Each is called on the thread of the vCPU that caused it
/// (on_stop: see there), so several may run at once. A vCPU in a callback is out of the guest and
/// its registers are complete: it counts as paused (see Machine::pause), and a callback may call
/// anything on the machine but wait_done. Any may be left empty.
struct Callbacks {
    /// This vCPU's dirty ring is full: make room for it (harvest and reset, here or on another
    /// thread) and return; called again if there still is none. An error ends the machine. If
    /// empty, a full ring does.
    std::function<Result<void>(std::uint32_t vcpu)> on_ring_full = nullptr;
    /// The vCPU has finished a round of its work with so many page writes.
    std::function<void(std::uint32_t vcpu, std::uint64_t page_writes)> on_round = nullptr;
    /// The guest wrote this to its console, a piece of a line or several. If empty,
    /// Machine::console collects.
    std::function<void(std::string_view text)> on_console = nullptr;
    /// The vCPU is about to enter the guest, for the first time or after any of its exits, those by
    /// Machine::kick among them: the place to hold one that writes too fast.
    std::function<void(std::uint32_t vcpu)> before_enter = nullptr;
    /// The machine, which had been started, is stopped: callbacks that wait for something return
    /// now, or wait_done waits for them. Called once, by Machine::stop on its caller's thread or,
    /// at a vCPU's bad end, on that vCPU's.
    std::function<void()> on_stop = nullptr;
};

}  // namespace dirtyring::machine
