// SPDX-License-Identifier: MIT
//
// A VM for arm64 as a program of its own would make it, with the guest of guest.hpp on each vCPU.
// For one thread, but for run_round.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "dirtyring/kvm/run.hpp"
#include "dirtyring/kvm/system.hpp"
#include "dirtyring/memory.hpp"
#include "dirtyring/source/ring_source.hpp"

namespace dirtyring::arm64 {

struct Config {
    std::uint32_t vcpus = 1;
    std::uint32_t ring_entries = 0;  ///< of each ring; 0: no rings
    bool ring_bitmap = false;        ///< a bitmap beside them
    bool manual_protect = false;     ///< KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2
    std::uint64_t writes = 2000;     ///< of each vCPU in a round
};

/// Slots: two that meet in the middle of the guest's pages, the second of an odd number of pages.
inline constexpr std::uint64_t memory_begin = std::uint64_t{1} << 30;
inline constexpr std::uint64_t low_size = std::uint64_t{3} << 20;
inline constexpr std::uint64_t high_begin = memory_begin + low_size;
inline constexpr std::uint64_t high_size = low_size + 3 * page_size;
inline constexpr std::uint32_t low_slot = 0;
inline constexpr std::uint32_t high_slot = 5;

/// What the guests write to: 4 MiB, of which 2 are in each slot. The rest holds code and page
/// tables at the beginning, nothing at the end.
inline constexpr std::uint64_t written_begin = memory_begin + (std::uint64_t{1} << 20);
inline constexpr std::uint64_t written_pages = 1024;

class ArmVm {
  public:
    /// Everything but the vCPUs, so that devices can be added that must come before or after them.
    ArmVm(const kvm::System& system, const Config& config);
    /// The vCPUs, each with its guest at the first instruction.
    void make_vcpus();

    [[nodiscard]] const kvm::Vm& vm() const { return vm_; }
    [[nodiscard]] const MemoryMap& memory() const { return map_; }
    /// Guest memory in this process.
    [[nodiscard]] std::byte* host(std::uint64_t guest_address) const;
    [[nodiscard]] Ring map_ring(std::uint32_t vcpu) const;

    /// Runs a vCPU until it has made its writes; gives how many it has made in all. On a full ring
    /// it has `rings` make room. Different vCPUs may run on different threads.
    std::uint64_t run_round(std::uint32_t vcpu, RingSource* rings);

  private:
    struct Unmap {
        void operator()(std::byte* memory) const noexcept;
    };
    struct Cpu {
        kvm::Vcpu vcpu;
        kvm::Run run;
    };

    void add_slot(std::uint32_t slot, std::uint64_t begin, std::uint64_t size);
    void start(const kvm::Vcpu& vcpu, std::uint32_t number) const;

    Config config_;
    std::unique_ptr<std::byte, Unmap> host_;
    kvm::Vm vm_;
    MemoryMap map_;
    std::vector<Cpu> cpus_;
};

}  // namespace dirtyring::arm64
