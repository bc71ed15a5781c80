// SPDX-License-Identifier: MIT
//
// For the examples: a machine of 64 MiB and two vCPUs with a guest program that writes to memory.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "dirtyring/kvm/system.hpp"
#include "dirtyring/source/ring_source.hpp"
#include "dirtyring/tracker.hpp"
#include "machine/machine.hpp"
#include "or_exit.hpp"

/// Ends the program with status 77, "cannot run here", where there is no /dev/kvm.
inline void skip_without_kvm() {
    if (const auto system = dirtyring::kvm::System::open(); !system) {
        std::fprintf(stderr, "%s\n", system.error().message().c_str());
        std::exit(77);
    }
}

/// All of its memory is logged, to rings of so many entries.
inline std::unique_ptr<dirtyring::machine::Machine> make_writer_machine(
    const char* guest_path, std::uint32_t ring_entries,
    std::function<dirtyring::Result<void>(std::uint32_t vcpu)> on_ring_full) {
    namespace machine = dirtyring::machine;
    skip_without_kvm();
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

/// A tracker over the machine's slots and rings; the machine has not been started.
inline dirtyring::Tracker track(dirtyring::machine::Machine& machine) {
    dirtyring::Tracker tracker(
        std::make_unique<dirtyring::RingSource>(machine.vm().fd(), machine.memory()));
    for (std::uint32_t i = 0; i < machine.vcpu_count(); ++i) {
        or_exit(tracker.add_vcpu(or_exit(dirtyring::Ring::map(machine.vcpu(i)))));
    }
    return tracker;
}
