// SPDX-License-Identifier: MIT
//
// What the measurements of `dirtyring bench` share. Each is a subcommand in a file of its own;
// bench.cpp lists them.
#pragma once

#include <array>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "command.hpp"
#include "dirtyring/probe.hpp"
#include "host_line.hpp"
#include "machine/machine.hpp"
#include "manual.hpp"
#include "record.hpp"
#include "session.hpp"

namespace dirtyring::cli {

[[nodiscard]] Command add_bench_overhead(CLI::App& bench);
[[nodiscard]] Command add_bench_collect(CLI::App& bench);
[[nodiscard]] Command add_bench_reset(CLI::App& bench);

inline constexpr std::uint64_t mib = std::uint64_t{1} << 20;

/// The ways of tracking that are compared, in the order of the tables.
inline constexpr std::array tracks = {Track::ring, Track::bitmap, Track::manual};

/// Whether this host has that way, and if not why.
[[nodiscard]] const TrackingSupport& support_of(const BenchHost& host, Track track) noexcept;
/// A line for each way that this host lacks.
[[nodiscard]] std::string lacking(const BenchHost& host);
/// Entries of each ring in a benchmark: 65,536, or what the host has at most.
[[nodiscard]] std::uint32_t bench_ring_entries(const BenchHost& host) noexcept;

/// Of `values`, which are not none; the upper one of two in the middle.
[[nodiscard]] double median(std::vector<double> values);

/// Nothing if all vCPUs were stopped from outside, as they are when a measurement has what it
/// wants. Otherwise an error that says how one ended, and what the guest wrote.
[[nodiscard]] Result<void> stopped(const machine::Machine& machine, const std::string& guest,
                                   const std::vector<machine::End>& ends);

/// Measures, prints its tables as far as there is something in them, and gives the members of its
/// JSON document. After a signal it ends soon, without an error.
using Measure = std::function<Result<nlohmann::ordered_json>(const BenchHost& host,
                                                             Interruption& interruption)>;

/// A file with a picture of what was measured.
struct PictureFile {
    std::string path;  ///< empty: none
    std::function<std::string()> draw = nullptr;
};

/// A whole benchmark: signals, the host's line, the measurement, the JSON file where `json` is not
/// empty, and the picture. Errors: those of look_at_host, of `measure` and of OutputFile.
[[nodiscard]] Result<void> run_bench(const std::string& name, const std::string& json,
                                     const Measure& measure, const PictureFile& picture = {});

/// --json and --quick, which every measurement has.
struct BenchOptions {
    std::string json;
    bool quick = false;
};
void add_bench_options(CLI::App& app, BenchOptions& options);

/// What the manual pages of all measurements say alike.
[[nodiscard]] std::vector<Entry> bench_exit_status();
[[nodiscard]] std::vector<Entry> bench_json_members();

}  // namespace dirtyring::cli
