// SPDX-License-Identifier: MIT
//
// A small virtual machine: guest memory, N vCPUs on a thread each, and a guest program
// (guests/abi.hpp) on them. It does not track anything: it turns the dirty ring or the dirty log
// on, tells when a ring is full, and can hold its vCPUs still. The ring is read through vcpu(i),
// the log through vm().
//
//     const auto file = machine::read_file("guests/hello");
//     const auto machine = Machine::create({.vcpus = 2}, {"guests/hello", *file}, {});
//     (*machine)->start();
//     for (const End& end : (*machine)->wait_done()) { ... }
//
// Signals: to get a vCPU out of the guest its thread is sent SIGUSR1. The first machine installs a
// handler for it that does nothing; a program that uses machines must not use SIGUSR1 for anything
// else. vCPU threads have all other signals blocked, so those reach the program's own threads.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "config.hpp"
#include "dirtyring/error.hpp"
#include "dirtyring/kvm/vcpu.hpp"
#include "dirtyring/kvm/vm.hpp"
#include "dirtyring/memory.hpp"
#include "end.hpp"

namespace dirtyring::machine {

/// What a vCPU has done so far.
struct Counters {
    std::uint64_t rounds = 0;           ///< writes to guest_abi::round_port
    std::uint64_t page_writes = 0;      ///< the sum of what those said
    std::uint64_t ring_full_exits = 0;  ///< KVM_EXIT_DIRTY_RING_FULL
    /// How often it has left the guest, for whatever reason; a string instruction's elements are
    /// one.
    std::uint64_t exits = 0;
};

/// Every call may be made from any thread, and from callbacks, unless it says otherwise.
class Machine {
  public:
    /// Opens /dev/kvm, makes the VM, its memory and vCPUs, and loads the program, which is not used
    /// any longer when this returns. No guest code runs before start. Errors: code 0 for a Config
    /// or a program that breaks a rule (which one, and what is legal), and those of the KVM calls
    /// and of mmap.
    [[nodiscard]] static Result<std::unique_ptr<Machine>> create(const Config& config,
                                                                 const Program& program,
                                                                 Callbacks callbacks);
    Machine(const Machine&) = delete;
    Machine& operator=(const Machine&) = delete;
    /// Stops the vCPUs and waits for their threads. Not from a callback.
    ~Machine();

    /// Starts a thread for each vCPU. Errors: EALREADY (once a machine, and not after stop), EAGAIN
    /// (the host has no more threads; the machine is stopped then).
    Result<void> start();

    /// Returns when no vCPU is in the guest, and none enters it until resume has been called as
    /// often as pause. Guest memory does not change meanwhile and the vCPUs' registers are
    /// complete. It waits for the guest only, never for a callback: one that has begun may still be
    /// running afterwards.
    void pause();
    /// Takes one pause back. Errors: EINVAL (the machine is not paused).
    Result<void> resume();
    /// Returns when no vCPU is in the guest; none enters it again, paused or not. Vcpus that have
    /// not ended by themselves end as Stopped. May be called more than once. wait_done waits for
    /// callbacks that still run.
    void stop();
    /// Makes one vCPU leave the guest and returns when it has left (it goes back in by itself): on
    /// hosts that log pages in hardware (Intel PML) this moves what is logged to the ring. Nothing
    /// to do for one outside.
    void kick(std::uint32_t vcpu);

    /// Waits until every vCPU has ended; how each did, in order. As soon as one vCPU ends in any
    /// way but with status 0 the others are stopped. Not from a callback.
    std::vector<End> wait_done();
    /// The same for at most `timeout`; nothing if some vCPU has not ended by then.
    std::optional<std::vector<End>> wait_done(std::chrono::milliseconds timeout);

    [[nodiscard]] std::uint32_t vcpu_count() const noexcept;
    /// For its dirty log, its rings' reset and its slots' dirty-logging flag; the slots themselves
    /// stay as they are.
    [[nodiscard]] kvm::Vm& vm() noexcept;
    /// See vcpu.hpp for what waits while the vCPU runs. Not for running it, unless start is never
    /// called.
    [[nodiscard]] kvm::Vcpu& vcpu(std::uint32_t index) noexcept;

    /// The memory slots: slot 0 from guest-physical 0 on, at most 3 GiB; the rest in slot 1 from 4
    /// GiB on.
    [[nodiscard]] const MemoryMap& memory() const noexcept;
    /// All of guest memory in the order of guest-virtual addresses, which are 0 .. size: address a
    /// is byte a. The slots' host pointers lead into it. The guest changes it while it runs.
    [[nodiscard]] std::span<std::byte> bytes() noexcept;
    /// Bytes of guest memory.
    [[nodiscard]] std::uint64_t memory_bytes() const noexcept;

    /// Read one by one while the vCPU goes on, so they may be an exit apart from each other.
    [[nodiscard]] Counters counters(std::uint32_t vcpu) const noexcept;
    /// What the guest has written to its console if no on_console takes it: the first MiB of it.
    [[nodiscard]] std::string console() const;

  private:
    class Impl;
    explicit Machine(std::unique_ptr<Impl> impl) noexcept;
    std::unique_ptr<Impl> impl_;
};

/// Reads a whole regular file of at most 256 MiB. Errors: what open and read say, EISDIR or EINVAL
/// (not a regular file), EFBIG. Any thread.
[[nodiscard]] Result<std::vector<std::byte>> read_file(const std::string& path);

}  // namespace dirtyring::machine
