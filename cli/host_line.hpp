// SPDX-License-Identifier: MIT
//
// The host that figures were measured on, as a benchmark says it before its tables.
#pragma once

#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "dirtyring/probe.hpp"

namespace dirtyring::cli {

struct BenchHost {
    std::string cpu_model;  ///< as /proc/cpuinfo has it; empty where it does not say
    long cpus = 0;          ///< online
    /// Over 1, 5 and 15 minutes; nothing where the host does not say.
    std::optional<std::array<double, 3>> load_average;
    HostFacilities kvm;
};

/// Asks it all. Any thread. Errors: those of System::open and probe.
[[nodiscard]] Result<BenchHost> look_at_host();

/// Two lines: the host, and what that means for the figures.
[[nodiscard]] std::string host_line(const BenchHost& host);
/// What the host does not say is null.
[[nodiscard]] nlohmann::ordered_json json_of(const BenchHost& host);

}  // namespace dirtyring::cli
