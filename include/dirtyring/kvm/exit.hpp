// SPDX-License-Identifier: MIT
//
// Why KVM_RUN came back, as a type for each reason (api.rst 5, "The kvm_run structure").
#pragma once

#include <linux/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>

namespace dirtyring::kvm {

// The spans point into the vCPU's kvm_run mapping: valid until its next run. For what the guest
// reads (Io in, Mmio read, ...) they are where the answer goes.

/// IN or OUT (KVM_EXIT_IO): `count` accesses of `size` bytes each, one after the other in `data`.
struct IoExit {
    bool out;
    std::uint8_t size;
    std::uint16_t port;
    std::uint32_t count;
    std::span<std::byte> data;
};
/// An access to guest-physical memory with no slot behind it (KVM_EXIT_MMIO).
struct MmioExit {
    bool write;
    std::uint64_t address;
    std::span<std::byte> data;
};
/// HLT with no interrupt chip in the kernel (KVM_EXIT_HLT).
struct HltExit {};
/// A triple fault, or a reset (KVM_EXIT_SHUTDOWN).
struct ShutdownExit {};
/// This vCPU's dirty ring is at its soft limit (KVM_EXIT_DIRTY_RING_FULL): it does not run again
/// until its entries have been harvested and reset, by any thread.
struct RingFullExit {};
/// A signal, or immediate_exit (KVM_EXIT_INTR, or EINTR from KVM_RUN).
struct IntrExit {};
/// KVM could not go on (KVM_EXIT_INTERNAL_ERROR); `data` says more for some suberrors.
struct InternalErrorExit {
    std::uint32_t suberror;
    std::span<const __u64> data;
};
/// The hardware refused to enter the guest (KVM_EXIT_FAIL_ENTRY).
struct FailEntryExit {
    std::uint64_t hardware_reason;
    std::uint32_t cpu;
};
/// A hardware reason that KVM does not know (KVM_EXIT_UNKNOWN).
struct UnknownExit {
    std::uint64_t hardware_reason;
};
/// A breakpoint or single step asked for with KVM_SET_GUEST_DEBUG (KVM_EXIT_DEBUG).
struct DebugExit {
    std::uint32_t exception;
    std::uint64_t pc;
    std::uint64_t dr6;
    std::uint64_t dr7;
};
/// The guest can take an interrupt now (KVM_EXIT_IRQ_WINDOW_OPEN).
struct IrqWindowExit {};
/// A RDMSR or WRMSR handed to user space (KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR). Answer through
/// the pointers: *error = 1 injects #GP, *data is the value read.
struct MsrExit {
    bool write;
    std::uint32_t index;
    std::uint32_t reason;
    __u64* data;
    __u8* error;
};
/// A hypercall handed to user space (KVM_EXIT_HYPERCALL); the answer goes to *result.
struct HypercallExit {
    std::uint64_t number;
    std::span<const __u64, 6> arguments;
    __u64* result;
};
/// The guest asked for shutdown, reset or crash (KVM_EXIT_SYSTEM_EVENT).
struct SystemEventExit {
    std::uint32_t type;
    std::span<const __u64> data;
};
/// Any other reason; its data is in Run::raw().
struct OtherExit {
    std::uint32_t reason;
};

using Exit = std::variant<IoExit, MmioExit, HltExit, ShutdownExit, RingFullExit, IntrExit,
                          InternalErrorExit, FailEntryExit, UnknownExit, DebugExit, IrqWindowExit,
                          MsrExit, HypercallExit, SystemEventExit, OtherExit>;

}  // namespace dirtyring::kvm
