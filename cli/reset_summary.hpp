// SPDX-License-Identifier: MIT
//
// The end of a loop of resets, in words and as JSON. The members of the JSON document are described
// in the manual page dirtyring-reset(1).
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "host_line.hpp"
#include "record.hpp"
#include "reset_loop.hpp"

namespace dirtyring::cli {

/// Several lines, the last of which ends with a newline.
[[nodiscard]] std::string reset_summary(const ResetConfig& config, const Header& header,
                                        const ResetState& end, const Outcome& outcome);

/// Gathers the intervals, so it grows with the loop. Not thread-safe.
class ResetJson {
  public:
    ResetJson(const ResetConfig& config, const Header& header, const BenchHost& host);

    void add(const ResetState& state);
    /// The whole document. `end`: the state that was added last.
    [[nodiscard]] std::string finish(const ResetState& end, const Outcome& outcome);

  private:
    [[nodiscard]] nlohmann::ordered_json figures(const ResetFigures& figures) const;

    Track track_;
    bool verify_;
    nlohmann::ordered_json document_;
    nlohmann::ordered_json intervals_ = nlohmann::ordered_json::array();
};

}  // namespace dirtyring::cli
