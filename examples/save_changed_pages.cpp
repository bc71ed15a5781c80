// SPDX-License-Identifier: MIT
// Minimal example of keeping a file equal to guest memory by writing only what changed.
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cinttypes>
#include <cstring>
#include <optional>

#include "dirtyring/tracker.hpp"
#include "writer_machine.hpp"

using namespace dirtyring;

static void save(int file, std::span<const std::byte> bytes, std::uint64_t place) {
    while (!bytes.empty()) {
        const auto n = static_cast<std::size_t>(
            or_exit(pwrite(file, bytes.data(), bytes.size(), static_cast<off_t>(place)), "pwrite"));
        bytes = bytes.subspan(n);
        place += n;
    }
}

int main(int argc, char** argv) {
    if (argc != 3) {
        return std::fprintf(stderr, "usage: save_changed_pages GUEST FILE\n"), 2;
    }
    const int file = or_exit(open(argv[2], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), argv[2]);
    std::optional<Tracker> tracker;
    const auto machine = make_writer_machine(
        argv[1], 16384, [&](std::uint32_t vcpu) { return tracker->ring_full(vcpu); });
    tracker.emplace(track(*machine));
    Consumer saver = tracker->add_consumer();

    // Everything once: the log tells what vCPUs write from here on, not what the host wrote.
    save(file, machine->bytes(), 0);
    or_exit(machine->start());
    for (bool running = true; running;) {
        running = !machine->wait_done(std::chrono::milliseconds(50));
        Epoch epoch = or_exit(saver.collect());
        std::uint64_t bytes = 0;
        const auto write_run = [&](const PageRun& run) {
            save(file, run.host(), run.file_offset);
            bytes += run.host().size();
        };
        // With one clean page between two dirty ones, which costs no more than another call.
        epoch.pages().for_each_run(write_run, 1);
        std::printf("%" PRIu64 " dirty pages: %" PRIu64 " bytes\n", epoch.pages().size(), bytes);
        epoch.commit();  // a save that fails leaves it uncommitted: the next epoch has all of it
    }

    // SAFETY: a new mapping of the file, which is as long as guest memory.
    const void* saved =
        or_exit(mmap(nullptr, machine->memory_bytes(), PROT_READ, MAP_SHARED, file, 0), "mmap");
    const bool equal = std::memcmp(saved, machine->bytes().data(), machine->memory_bytes()) == 0;
    std::printf("the file %s guest memory\n", equal ? "equals" : "differs from");
    return equal ? EXIT_SUCCESS : EXIT_FAILURE;
}
