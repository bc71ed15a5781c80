// SPDX-License-Identifier: MIT
#include "view.hpp"

namespace dirtyring::cli {

// A view that cannot draw now cannot at its next show either, and that tells.
SignalHandlers signals_for(Shown& shown, Interruption& interruption) {
    return {.stop = [&](int signal) { interruption.interrupt(signal); },
            .resized = [&] { [[maybe_unused]] const auto drawn = shown.redraw(); },
            .suspended =
                [&](const std::function<void()>& stop_here) {
                    [[maybe_unused]] const auto drawn = shown.step_aside(stop_here);
                }};
}

}  // namespace dirtyring::cli
