// SPDX-License-Identifier: MIT
// Minimal example of a fuzzer's loop: an input, a run of the guest, and back to the snapshot.
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "dirtyring/snapshot.hpp"
#include "dirtyring/source/ring_source.hpp"
#include "guests/replay_plan.hpp"
#include "machine/layout.hpp"
#include "machine/round_machine.hpp"
#include "writer_machine.hpp"

using namespace dirtyring;

int main(int argc, char** argv) {
    if (argc != 2) {
        return std::fprintf(stderr, "usage: fuzz_loop GUEST\n"), 2;
    }
    skip_without_kvm();
    // The guest, and where it looks for its input; yours comes from your own VMM.
    const auto file = or_exit(machine::read_file(argv[1]));
    auto guest = or_exit(machine::RoundMachine::create(
        {.ring_entries = 65536, .log_dirty = true, .params = {{"working_set", "16M"}}},
        {argv[1], file}));
    machine::Machine& machine = guest.machine();
    or_exit(guest.run_round());
    guest_abi::Info info;
    std::memcpy(&info, machine.bytes().data() + machine::layout::info, sizeof info);

    Tracker tracker = track(machine);
    or_exit(guest.finish_exit());  // the vCPU's registers are complete from here on
    Snapshot snapshot =
        or_exit(Snapshot::take(tracker, {&machine.vm(), {{&machine.vcpu(0), &guest.run_area()}}},
                               AllVcpusStopped(), {.state = {.system = false, .time = false}}));

    std::uint64_t pages = 0;
    for (std::uint64_t i = 0; i < 1000; ++i) {
        const guest::ReplayOrder input{i / 100, 50 + i % 50};
        std::memcpy(machine.bytes().data() + info.heap_base, &input, sizeof input);
        tracker.mark(machine::layout::physical(info.heap_base), sizeof input);
        or_exit(guest.run_round());
        pages += or_exit(snapshot.restore(AllVcpusStopped())).pages;
    }
    const std::string different = or_exit(snapshot.verify(AllVcpusStopped()));
    std::printf("1000 runs, %" PRIu64 " pages restored%s%s\n", pages,
                different.empty() ? ", all as it was" : ", different: ", different.c_str());
    return different.empty() ? EXIT_SUCCESS : EXIT_FAILURE;
}
