// SPDX-License-Identifier: MIT
//
// What one run of the oracle is made of: a guest, a way of tracking it, and what happens meanwhile.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "dirtyring/probe.hpp"

namespace dirtyring::soak {

struct Case {
    std::uint64_t seed = 1;  ///< of all that is left to chance in it
    Tracking way = Tracking::ring;
    std::uint32_t entries = 0;  ///< of each ring; 0 with a bitmap
    std::uint32_t vcpus = 1;
    std::string guest = "writer";
    std::vector<std::pair<std::string, std::string>> params = {};
    int privilege = 3;
    bool reaper = false;         ///< otherwise rings are read when they are full, and in collects
    bool host_writes = false;    ///< a thread that stores into memory, and marks it
    bool slots = false;          ///< slots that come, grow, shrink, move and go
    bool visitors = false;       ///< vCPUs that come while the others run, and go
    bool signals = false;        ///< at the threads that collect
    std::uint64_t step = 20000;  ///< page writes from one check to the next, on average
    std::uint64_t writes = 1000000;  ///< page writes to be followed, before scaled()
};

/// One line.
[[nodiscard]] std::string describe(const Case& what);

/// The case of a seed, out of what the host has; always the same one.
[[nodiscard]] Case random_case(std::uint64_t seed, const HostFacilities& host);

}  // namespace dirtyring::soak
