// SPDX-License-Identifier: MIT
// Minimal example of the dirty ring in a VMM that has its own descriptors and its own memory.
#include <fcntl.h>
#include <sys/ioctl.h>

#include <cinttypes>
#include <cstring>

#include "dirtyring/source/ring_source.hpp"
#include "or_exit.hpp"
#include "tiny_guest.hpp"

using namespace dirtyring;

int main() {
    const int dev = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (dev < 0) {
        return std::perror("/dev/kvm"), 77;  // cannot run here
    }
    // SAFETY: every ioctl here gets what linux/kvm.h says that it takes; the mmap is a new mapping.
    const int vm = or_exit(ioctl(dev, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
    constexpr std::size_t size = tiny_guest::memory;
    constexpr int rw = PROT_READ | PROT_WRITE;
    void* ram = or_exit(mmap(nullptr, size, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), "mmap");
    std::memcpy(ram, tiny_guest::code, sizeof tiny_guest::code);

    // README: begin
    // After KVM_CREATE_VM and before the first KVM_CREATE_VCPU: rings of 1,024 entries.
    or_exit(kvm::Vm::adopt(kvm::Fd::borrow(vm)).enable_dirty_ring(1024));

    // Each slot with KVM_MEM_LOG_DIRTY_PAGES, for KVM and for the library.
    kvm_userspace_memory_region region{0, KVM_MEM_LOG_DIRTY_PAGES, 0, size, 0};
    region.userspace_addr = reinterpret_cast<std::uintptr_t>(ram);
    or_exit(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
    MemoryMap slots;
    or_exit(slots.add({.slot = 0, .size = size, .host = static_cast<std::byte*>(ram)}));
    RingSource source(kvm::Fd::borrow(vm), slots);

    // Each vCPU's ring.
    const int vcpu = or_exit(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
    const std::size_t ring = source.add(or_exit(Ring::adopt(kvm::Fd::borrow(vcpu))));

    // The vCPU's thread has one more exit to handle.
    const kvm_run* run = tiny_guest::boot(dev, vcpu);
    for (;;) {
        or_exit(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
        if (run->exit_reason != KVM_EXIT_DIRTY_RING_FULL) {
            break;
        }
        or_exit(source.ring_full(ring));
    }

    // Any thread, whether vCPUs run or not: the pages written since the last time, armed again.
    const Pages pages = or_exit(source.collect({}));
    pages.for_each_run([](const PageRun& dirty) {
        std::printf("0x%" PRIx64 ": %" PRIu64 " pages\n", dirty.guest_address(), dirty.count);
    });
    // README: end
    return run->exit_reason == KVM_EXIT_HLT ? EXIT_SUCCESS : EXIT_FAILURE;
}
