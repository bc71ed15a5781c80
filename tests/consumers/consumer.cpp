// SPDX-License-Identifier: MIT
//
// What each consumer project builds: a program that uses the library where there is no KVM.
#include <array>
#include <cstdio>
#include <string>

#include "dirtyring/dirtyring.hpp"

namespace {

// The pages of a ring in plain memory.
bool harvests() {
    std::array<kvm_dirty_gfn, 8> entries{};
    entries[0] = {KVM_DIRTY_GFN_F_DIRTY, 0, 3};
    entries[1] = {KVM_DIRTY_GFN_F_DIRTY, 0, 1};
    alignas(dirtyring::page_size) static std::array<std::byte, 4 * dirtyring::page_size> memory;
    dirtyring::MemoryMap map;
    const bool added =
        map.add({.slot = 0, .guest_address = 0, .size = memory.size(), .host = memory.data()})
            .has_value();
    dirtyring::Result<dirtyring::Ring> ring = dirtyring::Ring::over(entries);
    dirtyring::Harvest harvest(map);
    return added && ring && harvest.take(*ring) == 2 &&
           harvest.pages(dirtyring::AllVcpusStopped()).pages(0).contains(3);
}

// What comes back from a call that fails, through the library's boundary.
bool explains() {
    const auto system = dirtyring::kvm::System::open("/nonexistent");
    return !system && system.error().message().starts_with("open(/nonexistent): ");
}

}  // namespace

int main() {
    const bool works = harvests() && explains();
    std::puts(works ? "dirtyring works here" : "dirtyring does not work here");
    return works ? 0 : 1;
}
