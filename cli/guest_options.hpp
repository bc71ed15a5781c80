// SPDX-License-Identifier: MIT
//
// The options that say which guest runs and how it is tracked, for the commands that run one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "builtin_guests.hpp"
#include "command.hpp"
#include "machine/config.hpp"
#include "manual.hpp"
#include "record.hpp"

namespace dirtyring::cli {

struct GuestOptions {
    std::string guest{builtin_guests().front().name};
    machine::Config machine{.memory = std::uint64_t{256} << 20, .params = {}};
    std::optional<std::uint32_t> ring_entries;
    std::optional<Track> track;  ///< nothing: choose

    /// What was asked for, or the default.
    [[nodiscard]] std::uint32_t ring() const { return ring_entries.value_or(65536); }
};

/// GUEST, --memory, --ring, --param and --track.
void add_guest_options(CLI::App& app, GuestOptions& options);
/// What no option can say by itself. Throws CLI::ValidationError.
void check_guest_options(const GuestOptions& options);

/// What the manual pages say of guests and their files.
[[nodiscard]] ManualSection guests_section();

}  // namespace dirtyring::cli
