// SPDX-License-Identifier: MIT
// Minimal example of a VM made with dirtyring::kvm, and of its ring harvested by hand.
#include <algorithm>
#include <cinttypes>

#include "dirtyring/harvest.hpp"
#include "dirtyring/kvm/run.hpp"
#include "dirtyring/kvm/system.hpp"
#include "or_exit.hpp"
#include "tiny_guest.hpp"

using namespace dirtyring;

alignas(page_size) static std::byte ram[tiny_guest::memory];

int main() {
    const Result<kvm::System> system = kvm::System::open();
    if (!system) {
        std::fprintf(stderr, "%s\n", system.error().message().c_str());
        return 77;  // cannot run here
    }
    kvm::Vm vm = or_exit(system->create_vm());
    or_exit(vm.enable_dirty_ring(1024));

    std::ranges::copy(std::as_bytes(std::span(tiny_guest::code)), ram);
    // SAFETY: `ram` outlives the VM.
    const auto address = reinterpret_cast<std::uintptr_t>(ram);
    or_exit(vm.set_user_memory_region({0, KVM_MEM_LOG_DIRTY_PAGES, 0, sizeof ram, address}));
    MemoryMap memory;
    or_exit(memory.add({.slot = 0, .guest_address = 0, .size = sizeof ram, .host = ram}));

    const kvm::Vcpu vcpu = or_exit(vm.create_vcpu(0));
    kvm_sregs sregs = or_exit(vcpu.get_sregs());
    tiny_guest::enter_32_bit_mode(sregs);
    or_exit(vcpu.set_sregs(sregs));
    or_exit(vcpu.set_regs(tiny_guest::registers()));

    kvm::Run run = or_exit(kvm::Run::map(vcpu));
    Ring ring = or_exit(Ring::map(vcpu));
    ResetHandle handle(vm.fd());
    Harvest harvest(memory);
    bool suspect = false;  // a reset that left pages unarmed; RingSource would know what to do
    kvm::Exit exit = or_exit(run.run());
    while (std::holds_alternative<kvm::RingFullExit>(exit)) {
        harvest.take(ring);
        suspect |= or_exit(handle.settle(harvest)).suspect();  // room: the guest can go on
        exit = or_exit(run.run());
    }
    harvest.take(ring);

    // No page can be read from `harvest`: before the reset it could change once more, unlogged.
    const Pages pages = or_exit(handle.reset(std::move(harvest)));
    pages.for_each_run([](const PageRun& dirty) {
        std::printf("0x%" PRIx64 ": %" PRIu64 " pages\n", dirty.guest_address(), dirty.count);
    });
    suspect |= pages.everything();
    return suspect || !std::holds_alternative<kvm::HltExit>(exit) ? EXIT_FAILURE : EXIT_SUCCESS;
}
