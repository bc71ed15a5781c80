// SPDX-License-Identifier: MIT
// Minimal example of a VMM of bare ioctls that takes the tracker in.
#include <fcntl.h>
#include <sys/ioctl.h>

#include <cinttypes>
#include <cstring>

#include "dirtyring/source/make_source.hpp"
#include "dirtyring/tracker.hpp"
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
    // After KVM_CREATE_VM, before the first KVM_CREATE_VCPU: rings where there are any.
    Tracker tracker(or_exit(make_source(kvm::Fd::borrow(vm), {})).source);

    // Each memory slot, for KVM and for the tracker; later ones in the same way, vCPUs stopped.
    or_exit(tracker.change_slots(AllVcpusStopped(), [&](MemoryMap& slots) {
        kvm_userspace_memory_region region{0, KVM_MEM_LOG_DIRTY_PAGES, 0, size, 0};
        region.userspace_addr = reinterpret_cast<std::uintptr_t>(ram);
        or_exit(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
        return slots.add({.slot = 0, .size = size, .host = static_cast<std::byte*>(ram)});
    }));
    const int fd = or_exit(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
    const std::size_t vcpu = or_exit(tracker.add_vcpu(kvm::Fd::borrow(fd)));
    Consumer consumer = tracker.add_consumer();  // from here on; now is the time for a full copy

    // The vCPU's thread has one more exit to handle.
    const kvm_run* run = tiny_guest::boot(dev, fd);
    while (ioctl(fd, KVM_RUN, 0) == 0 && run->exit_reason == KVM_EXIT_DIRTY_RING_FULL) {
        or_exit(tracker.ring_full(vcpu));
    }

    // Any thread, whether vCPUs run or not: what changed since the last time.
    Epoch epoch = or_exit(consumer.collect());
    epoch.pages().for_each_run([](const PageRun& dirty) {
        std::printf("0x%" PRIx64 ": %" PRIu64 " pages\n", dirty.guest_address(), dirty.count);
    });
    epoch.commit();  // or abort(): the next epoch has these pages again
    // README: end
    return run->exit_reason == KVM_EXIT_HLT ? EXIT_SUCCESS : EXIT_FAILURE;
}
