// SPDX-License-Identifier: MIT
//
// Makes of a run's intervals what is asked for: the summary, the JSON file, the picture, a trace,
// the statistics. The same for a run and for a trace of one, but for what only a live run has.
#pragma once

#include <optional>
#include <string>

#include "heat_map.hpp"
#include "json_report.hpp"
#include "output_file.hpp"
#include "record.hpp"
#include "totals.hpp"
#include "trace_writer.hpp"

namespace dirtyring::cli {

/// Where to; empty: not wanted.
struct RecorderPaths {
    std::string json;
    std::string heatmap;
    std::string trace;
    std::string stats;  ///< for a live run only
};

/// Not thread-safe.
class Recorder {
  public:
    /// Opens the files, so that they are known to be writable. Errors: those of OutputFile::create.
    [[nodiscard]] static Result<Recorder> open(const RecorderPaths& paths);

    /// Once, first. Errors of this and of the next: those of OutputFile::write.
    Result<void> begin(const Header& header);
    Result<void> add(const Interval& interval);
    [[nodiscard]] const Totals& totals() const noexcept { return *totals_; }
    /// `live` of this and of the next: null where the intervals are a trace's.
    [[nodiscard]] std::string summary(const Outcome& outcome, const Live* live) const;
    /// Makes the files appear. Once, last. Errors: those of OutputFile::write and commit; files
    /// that are not there yet then do not appear.
    Result<void> finish(const Outcome& outcome, const Live* live);

  private:
    Recorder() = default;

    std::optional<TraceWriter> trace_;
    std::optional<OutputFile> json_file_;
    std::optional<OutputFile> heatmap_file_;
    std::optional<OutputFile> stats_file_;
    bool stats_as_json_ = false;
    Header header_;
    std::optional<Totals> totals_;
    std::optional<JsonReport> json_;
    HeatMap heat_map_;
};

}  // namespace dirtyring::cli
