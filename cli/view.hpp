// SPDX-License-Identifier: MIT
//
// What is shown while the guest runs.
#pragma once

#include <functional>

#include "dirtyring/error.hpp"
#include "record.hpp"
#include "totals.hpp"

namespace dirtyring::cli {

/// All calls from any thread; those after end do nothing. Errors: those of writing to standard
/// output.
class View {
  public:
    View() = default;
    View(const View&) = delete;
    View& operator=(const View&) = delete;
    virtual ~View() = default;

    /// Takes the terminal.
    virtual Result<void> begin(const Header& header) = 0;
    /// An interval is over; `totals` has it in.
    virtual Result<void> show(const Interval& interval, const Totals& totals) = 0;
    /// Gives the terminal back as it was.
    virtual Result<void> end() = 0;

    /// Draws once more what is there, as the terminal has another size now.
    virtual Result<void> redraw() { return {}; }
    /// Calls `meanwhile` with the terminal given back, and takes it again.
    virtual Result<void> step_aside(const std::function<void()>& meanwhile) {
        meanwhile();
        return {};
    }
};

}  // namespace dirtyring::cli
