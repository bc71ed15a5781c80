// SPDX-License-Identifier: MIT
#include "track_choice.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <utility>

#include "dirtyring/probe.hpp"
#include "output_file.hpp"

namespace dirtyring::cli {

namespace {

Track track_of(Tracking way) {
    switch (way) {
        case Tracking::bitmap:
            return Track::bitmap;
        case Tracking::manual_bitmap:
            return Track::manual;
        case Tracking::ring:
        case Tracking::ring_with_bitmap:  // all that our machine writes is written by its vCPUs
            break;
    }
    return Track::ring;
}

}  // namespace

Result<TrackChoice> choose_track(std::optional<Track> wanted) {
    if (wanted) {
        return TrackChoice{*wanted, {}};
    }
    Result<kvm::System> system = kvm::System::open();
    if (!system) {
        return fail(std::move(system.error()));
    }
    Result<HostFacilities> host = probe(*system);
    if (!host) {
        return fail(std::move(host.error()));
    }
    if (!host->recommended) {
        return fail({0, "choose a way of tracking", host->recommended_why,
                     "dirtyring probe says why for each"});
    }
    return TrackChoice{track_of(*host->recommended), host->recommended_why};
}

Result<Track> tell(const TrackChoice& choice) {
    const std::string line =
        choice.why.empty() ? std::string()
                           : fmt::format("tracking by {}: {}\n", name(choice.track), choice.why);
    return write_all(STDOUT_FILENO, line, "standard output").map([&] { return choice.track; });
}

}  // namespace dirtyring::cli
