// SPDX-License-Identifier: MIT
// Minimal example of a thread that empties the rings while the vCPUs run, so that none fills up.
#include <chrono>
#include <cinttypes>
#include <optional>
#include <thread>

#include "dirtyring/source/ring_source.hpp"
#include "writer_machine.hpp"

using namespace dirtyring;

constexpr std::uint32_t ring_entries = 4096;

int main(int argc, char** argv) {
    if (argc != 2) {
        return std::fprintf(stderr, "usage: reader_thread GUEST\n"), 2;
    }
    std::optional<RingSource> source;
    const auto machine = make_writer_machine(
        argv[1], ring_entries, [&](std::uint32_t vcpu) { return source->ring_full(vcpu); });

    source.emplace(machine->vm().fd(), machine->memory());
    for (std::uint32_t i = 0; i < machine->vcpu_count(); ++i) {
        source->add(or_exit(Ring::map(machine->vcpu(i))));
    }

    or_exit(machine->start());
    std::jthread reader([&](const std::stop_token& stop) {
        while (!stop.stop_requested()) {
            // Not sooner than needed: pages that are drained are armed again, and their next write
            // faults. They wait for the next collect.
            if (source->fill() >= ring_entries / 2) {
                or_exit(source->drain());
            }
            std::this_thread::sleep_for(std::chrono::microseconds(200));
        }
    });
    const std::vector<machine::End> ends = machine->wait_done();
    reader.request_stop();
    reader.join();

    const Pages pages = or_exit(source->collect({}));
    bool ended_well = true;
    for (std::uint32_t i = 0; i < machine->vcpu_count(); ++i) {
        const RingStatistics ring = source->statistics(i);
        std::printf("vCPU %u: %" PRIu64 " entries, at most %u at once, %" PRIu64 " times full\n", i,
                    ring.entries, ring.largest_fill, ring.full_exits);
        ended_well = ended_well && machine::succeeded(ends[i]);
    }
    std::printf("%" PRIu64 " different pages\n", pages.size());
    return ended_well ? EXIT_SUCCESS : EXIT_FAILURE;
}
