// SPDX-License-Identifier: MIT
//
// --track auto.
#pragma once

#include <optional>
#include <string>

#include "dirtyring/error.hpp"
#include "record.hpp"

namespace dirtyring::cli {

struct TrackChoice {
    Track track;
    std::string why;  ///< one sentence; empty where it was wanted
};

/// What is wanted, or what dirtyring::probe recommends on this host. Errors: those of System::open
/// and probe; code 0 where no way of tracking can be used.
[[nodiscard]] Result<TrackChoice> choose_track(std::optional<Track> wanted);

/// Prints a choice that was not the user's. Errors: those of writing to standard output.
[[nodiscard]] Result<Track> tell(const TrackChoice& choice);

}  // namespace dirtyring::cli
