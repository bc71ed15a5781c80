// SPDX-License-Identifier: MIT
//
// --track auto.
#pragma once

#include <string>

#include "dirtyring/error.hpp"
#include "record.hpp"

namespace dirtyring::cli {

struct TrackChoice {
    Track track;
    std::string why;  ///< one sentence
};

/// What dirtyring::probe recommends on this host. Errors: those of System::open and probe; code 0
/// where no way of tracking can be used.
[[nodiscard]] Result<TrackChoice> choose_track();

}  // namespace dirtyring::cli
