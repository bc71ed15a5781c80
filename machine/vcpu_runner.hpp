// SPDX-License-Identifier: MIT
//
// One vCPU and its thread: runs the guest, and answers what it comes out with.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config.hpp"
#include "console.hpp"
#include "dirtyring/kvm/run.hpp"
#include "dirtyring/kvm/vcpu.hpp"
#include "end.hpp"
#include "gate.hpp"
#include "guest_memory.hpp"
#include "machine.hpp"

namespace dirtyring::machine {

/// What the vCPUs of a machine share; outlives them.
struct Shared {
    Shared(Callbacks given, GuestMemory&& guest_memory, std::uint32_t vcpus)
        : callbacks(std::move(given)), memory(std::move(guest_memory)), gate(vcpus) {}

    /// As Machine::stop.
    void stop();
    /// The vCPU will not enter again. Any end but success stops the others, and that first, so that
    /// nobody is in on_stop any longer when wait_done returns. Its thread, outside.
    void end(std::uint32_t vcpu, End end);

    Callbacks callbacks;
    GuestMemory memory;
    Console console;
    Gate gate;
};

class VcpuRunner {
  public:
    VcpuRunner(std::uint32_t index, kvm::Vcpu vcpu, kvm::Run run, Shared& shared)
        : index_(index), vcpu_(std::move(vcpu)), run_(std::move(run)), shared_(shared) {}
    VcpuRunner(const VcpuRunner&) = delete;
    VcpuRunner& operator=(const VcpuRunner&) = delete;
    /// Waits for the thread; the gate must have been stopped. Not from the thread itself.
    ~VcpuRunner();

    /// Starts the thread, which ends at the latest when the gate is stopped. Once. Errors: EAGAIN.
    Result<void> start();

    [[nodiscard]] kvm::Vcpu& vcpu() noexcept { return vcpu_; }
    /// Any thread.
    [[nodiscard]] Counters counters() const noexcept;

  private:
    /// What the guest said through its ports between two stays outside.
    struct Said {
        std::string console;
        std::vector<std::uint32_t> rounds;
        std::optional<std::uint32_t> status;
    };

    [[nodiscard]] End loop();
    [[nodiscard]] bool enter();
    [[nodiscard]] Result<kvm::Exit> run_until_complete(Said& said);
    [[nodiscard]] static bool note(const kvm::Exit& exit, Said& said);
    void pass_on(const Said& said);
    [[nodiscard]] std::optional<End> handle(const kvm::Exit& exit);
    [[nodiscard]] std::optional<End> ring_full();
    [[nodiscard]] Faulted fault(const kvm::Exit& exit) const;

    std::uint32_t index_;
    kvm::Vcpu vcpu_;
    kvm::Run run_;
    Shared& shared_;
    std::optional<pthread_t> thread_;

    // Written by the vCPU's thread, read by any: single numbers that order nothing, so relaxed.
    std::atomic<std::uint64_t> rounds_ = 0;
    std::atomic<std::uint64_t> page_writes_ = 0;
    std::atomic<std::uint64_t> ring_full_exits_ = 0;
    std::atomic<std::uint64_t> exits_ = 0;
};

}  // namespace dirtyring::machine
