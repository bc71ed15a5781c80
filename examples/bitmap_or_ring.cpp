// SPDX-License-Identifier: MIT
// Minimal example of the way of tracking that suits the host, or the one asked for.
#include <chrono>
#include <cinttypes>
#include <cstring>

#include "dirtyring/probe.hpp"
#include "dirtyring/source/bitmap_source.hpp"
#include "dirtyring/source/ring_source.hpp"
#include "writer_machine.hpp"

using namespace dirtyring;

int main(int argc, char** argv) {
    if (argc < 2 || argc > 3 || (argc == 3 && std::strcmp(argv[2], "bitmap") != 0)) {
        return std::fprintf(stderr, "usage: bitmap_or_ring GUEST [bitmap]\n"), 2;
    }
    const Result<kvm::System> system = kvm::System::open();
    if (!system) {
        return std::fprintf(stderr, "%s\n", system.error().message().c_str()), 77;
    }
    const HostFacilities host = or_exit(probe(*system));
    std::printf("this host: %s, as %s\n", host.recommended ? name(*host.recommended) : "nothing",
                host.recommended_why.c_str());
    const bool by_ring = argc == 2 && host.recommended == Tracking::ring;

    std::unique_ptr<Source> source;
    RingSource* rings = nullptr;
    const auto machine = make_writer_machine(
        argv[1], by_ring ? 4096 : 0, [&](std::uint32_t vcpu) { return rings->ring_full(vcpu); });
    if (by_ring) {
        auto made = std::make_unique<RingSource>(machine->vm().fd(), machine->memory());
        for (std::uint32_t i = 0; i < machine->vcpu_count(); ++i) {
            made->add(or_exit(Ring::map(machine->vcpu(i))));
        }
        rings = made.get();
        source = std::move(made);
    } else {
        source = std::make_unique<BitmapSource>(machine->vm().fd(), machine->memory(),
                                                BitmapMode::automatic);
    }

    // From here on it does not matter which.
    or_exit(machine->start());
    for (bool running = true; running;) {
        running = !machine->wait_done(std::chrono::milliseconds(200));
        std::printf("%" PRIu64 " pages\n", or_exit(source->collect({})).size());
    }
    return EXIT_SUCCESS;
}
