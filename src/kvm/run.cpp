// SPDX-License-Identifier: MIT
#include "dirtyring/kvm/run.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>

#include "../sys.hpp"
#include "dirtyring/kvm/ioctl.hpp"

namespace dirtyring::kvm {

Run::Run(Fd fd, Mapping mapping) noexcept
    : fd_(std::move(fd)),
      mapping_(std::move(mapping)),
      // SAFETY: the kernel lays a kvm_run out at the start of this mapping, which is page-aligned
      // and at least that large (map checks it).
      run_(static_cast<kvm_run*>(mapping_.address())) {}

Result<Run> Run::map(const Vcpu& vcpu) {
    if (vcpu.mmap_size() < sizeof(kvm_run)) {
        return fail({EINVAL, "Run::map",
                     "the vCPU was adopted with a kvm_run mapping of " +
                         std::to_string(vcpu.mmap_size()) + " bytes",
                     "give Vcpu::adopt the size that System::vcpu_mmap_size reports"});
    }
    // SAFETY: kvm_run lies at offset 0 of the vCPU's descriptor and is as large as the kernel said.
    Result<Mapping> mapping = Mapping::map(vcpu.fd(), vcpu.mmap_size(), 0, "kvm_run");
    if (!mapping) {
        return fail(std::move(mapping.error()));
    }
    return Run(vcpu.fd().ref(), std::move(*mapping));
}

void Run::request_exit() noexcept {
    // SAFETY: immediate_exit is one naturally aligned byte that the kernel only reads; every access
    // in this library goes through atomic_ref. Release: what the caller did before is seen by the
    // woken thread.
    std::atomic_ref(run_->immediate_exit).store(1, std::memory_order_release);
}

void Run::clear_exit_request() noexcept {
    // SAFETY: as in request_exit.
    std::atomic_ref(run_->immediate_exit).store(0, std::memory_order_release);
}

namespace {

Exit decode(kvm_run& run, std::size_t mapping_bytes) {
    switch (run.exit_reason) {
        case KVM_EXIT_IO: {
            // SAFETY: the kernel puts the data inside this very mapping, data_offset bytes from its
            // start (api.rst 5); the length is cut to the mapping so that even a wrong one stays
            // inside.
            auto* start = reinterpret_cast<std::byte*>(&run);
            const std::size_t offset = std::min<std::size_t>(run.io.data_offset, mapping_bytes);
            const std::size_t length = std::min<std::size_t>(
                std::size_t{run.io.size} * run.io.count, mapping_bytes - offset);
            return IoExit{run.io.direction == KVM_EXIT_IO_OUT,
                          run.io.size,
                          run.io.port,
                          run.io.count,
                          {start + offset, length}};
        }
        case KVM_EXIT_MMIO:
            return MmioExit{run.mmio.is_write != 0, run.mmio.phys_addr,
                            std::as_writable_bytes(std::span(run.mmio.data))
                                .first(std::min<std::size_t>(run.mmio.len, sizeof run.mmio.data))};
        case KVM_EXIT_HLT:
            return HltExit{};
        case KVM_EXIT_SHUTDOWN:
            return ShutdownExit{};
        case KVM_EXIT_DIRTY_RING_FULL:
            return RingFullExit{};
        case KVM_EXIT_INTR:
            return IntrExit{};
        case KVM_EXIT_INTERNAL_ERROR:
            return InternalErrorExit{
                run.internal.suberror,
                {run.internal.data,
                 std::min<std::size_t>(run.internal.ndata, std::size(run.internal.data))}};
        case KVM_EXIT_FAIL_ENTRY:
            return FailEntryExit{run.fail_entry.hardware_entry_failure_reason, run.fail_entry.cpu};
        case KVM_EXIT_UNKNOWN:
            return UnknownExit{run.hw.hardware_exit_reason};
#if defined(__x86_64__)
        case KVM_EXIT_DEBUG:
            return DebugExit{run.debug.arch.exception, run.debug.arch.pc, run.debug.arch.dr6,
                             run.debug.arch.dr7};
#endif
        case KVM_EXIT_IRQ_WINDOW_OPEN:
            return IrqWindowExit{};
        case KVM_EXIT_X86_RDMSR:
        case KVM_EXIT_X86_WRMSR:
            return MsrExit{run.exit_reason == KVM_EXIT_X86_WRMSR, run.msr.index, run.msr.reason,
                           &run.msr.data, &run.msr.error};
        case KVM_EXIT_HYPERCALL:
            return HypercallExit{run.hypercall.nr, run.hypercall.args, &run.hypercall.ret};
        case KVM_EXIT_SYSTEM_EVENT:
            return SystemEventExit{
                run.system_event.type,
                {run.system_event.data,
                 std::min<std::size_t>(run.system_event.ndata, std::size(run.system_event.data))}};
        default:
            return OtherExit{run.exit_reason};
    }
}

}  // namespace

Result<Exit> Run::run() {
    // SAFETY: KVM_RUN takes no argument; it reads and writes the kvm_run that mapping_ holds.
    const int result = sys::ioctl(fd_.get(), KVM_RUN, nullptr);
    if (result == -EINTR) {
        return IntrExit{};
    }
    if (result < 0) {
        return fail({-result, "KVM_RUN", {}, {}});
    }
    return decode(*run_, mapping_.bytes());
}

}  // namespace dirtyring::kvm
