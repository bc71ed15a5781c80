// SPDX-License-Identifier: MIT
//
// What is known of guests here by those who reset them to a snapshot.
#pragma once

#include <cstdint>

#include "dirtyring/guest_state.hpp"

namespace dirtyring::machine {

/// Of a vCPU whose guest stays in ring 3, all that can change. Its time goes on.
inline constexpr StateOptions ring_3_state = {.system = false, .time = false};

/// Rounds before the snapshot: a guest then has filled its memory and is at its work.
inline constexpr std::uint64_t warm_up_rounds = 3;

}  // namespace dirtyring::machine
