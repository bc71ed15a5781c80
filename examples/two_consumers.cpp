// SPDX-License-Identifier: MIT
// Minimal example of two who ask at their own pace, and of a thread that keeps rings from filling.
#include <chrono>
#include <cinttypes>
#include <optional>

#include "dirtyring/reaper.hpp"
#include "dirtyring/source/ring_source.hpp"
#include "writer_machine.hpp"

using namespace dirtyring;

int main(int argc, char** argv) {
    if (argc != 2) {
        return std::fprintf(stderr, "usage: two_consumers GUEST\n"), 2;
    }
    std::optional<Tracker> tracker;
    const auto machine = make_writer_machine(
        argv[1], 4096, [&](std::uint32_t vcpu) { return tracker->ring_full(vcpu); });
    tracker.emplace(track(*machine));
    const auto reaper = or_exit(Reaper::start(*tracker));
    Consumer often = tracker->add_consumer();
    Consumer once = tracker->add_consumer();

    or_exit(machine->start());
    for (bool running = true; running;) {
        running = !machine->wait_done(std::chrono::milliseconds(50));
        Epoch epoch = or_exit(often.collect());
        std::printf("%" PRIu64 " pages in epoch %" PRIu64 "\n", epoch.pages().size(),
                    epoch.sequence());
        epoch.commit();
    }
    or_exit(reaper->stop());

    Epoch all = or_exit(once.collect());
    std::printf("%" PRIu64 " different pages in all\n", all.pages().size());
    all.commit();
    std::printf("%s\n", to_json(tracker->statistics()).c_str());
    return EXIT_SUCCESS;
}
