// SPDX-License-Identifier: MIT
//
// A run as JSON. Its members are described in the manual page dirtyring-run(1).
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "record.hpp"
#include "totals.hpp"

namespace dirtyring::cli {

/// Gathers the intervals, so it grows with the run. Not thread-safe.
class JsonReport {
  public:
    explicit JsonReport(const Header& header);

    /// `distinct_so_far`: Totals::distinct with this interval in.
    void add(const Interval& interval, std::uint64_t distinct_so_far);
    /// The whole document. `live`: null where it is made of a trace.
    [[nodiscard]] std::string finish(const Totals& totals, const Outcome& outcome,
                                     const Live* live);

  private:
    bool rings_;
    nlohmann::ordered_json document_;
    nlohmann::ordered_json intervals_ = nlohmann::ordered_json::array();
};

/// The first members of a document: its format and what was run.
[[nodiscard]] nlohmann::ordered_json document_of(std::string_view format, const Header& header);
[[nodiscard]] nlohmann::ordered_json json_of(const Outcome& outcome);

/// The document as text, ending with a newline. Bytes that are not UTF-8 become U+FFFD.
[[nodiscard]] std::string dump(const nlohmann::ordered_json& document);

}  // namespace dirtyring::cli
