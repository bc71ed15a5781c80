// SPDX-License-Identifier: MIT
//
// For the examples: a machine of 64 MiB and two vCPUs with a guest program that writes to memory.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "dirtyring/kvm/system.hpp"
#include "machine/machine.hpp"
#include "or_exit.hpp"

/// All of its memory is logged, to rings of so many entries, or to a bitmap where that is 0. Ends
/// the program with status 77, "cannot run here", where there is no /dev/kvm.
inline std::unique_ptr<dirtyring::machine::Machine> make_writer_machine(
    const char* guest_path, std::uint32_t ring_entries,
    std::function<dirtyring::Result<void>(std::uint32_t vcpu)> on_ring_full) {
    namespace machine = dirtyring::machine;
    if (const auto system = dirtyring::kvm::System::open(); !system) {
        std::fprintf(stderr, "%s\n", system.error().message().c_str());
        std::exit(77);
    }
    machine::Config config;
    config.vcpus = 2;
    config.log_dirty = true;
    config.ring_entries = ring_entries;
    config.rounds = 20;
    config.params = {{"working_set", "16M"}, {"pattern", "zipf"}, {"writes", "5000"}};
    machine::Callbacks callbacks;
    callbacks.on_ring_full = std::move(on_ring_full);
    return or_exit(machine::Machine::create(
        config, {guest_path, or_exit(machine::read_file(guest_path))}, std::move(callbacks)));
}
