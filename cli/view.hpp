// SPDX-License-Identifier: MIT
//
// What is shown while the guest runs.
#pragma once

#include <functional>

#include "dirtyring/error.hpp"
#include "record.hpp"
#include "session.hpp"
#include "stop_signals.hpp"
#include "totals.hpp"

namespace dirtyring::cli {

/// What a view of whatever does with its terminal. All calls from any thread; those after end do
/// nothing. Errors: those of writing to standard output.
class Shown {
  public:
    Shown() = default;
    Shown(const Shown&) = delete;
    Shown& operator=(const Shown&) = delete;
    virtual ~Shown() = default;

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

/// Of a run. As Shown's calls.
class View : public Shown {
  public:
    /// Takes the terminal.
    virtual Result<void> begin(const Header& header) = 0;
    /// An interval is over; `totals` has it in.
    virtual Result<void> show(const Interval& interval, const Totals& totals, const Live& live) = 0;
};

/// What signals do while something is shown: those that stop go to `interruption`. Both outlive
/// the StopSignals.
[[nodiscard]] SignalHandlers signals_for(Shown& shown, Interruption& interruption);

}  // namespace dirtyring::cli
