// SPDX-License-Identifier: MIT
//
// Writes what a run tells into a file (docs/trace-format.md).
#pragma once

#include <string>
#include <utility>

#include "output_file.hpp"
#include "record.hpp"
#include "trace_format.hpp"

namespace dirtyring::cli {

/// Not thread-safe. Errors of every call: those of OutputFile::write.
class TraceWriter {
  public:
    /// `file` is open and empty.
    explicit TraceWriter(OutputFile&& file) : file_(std::move(file)) {}

    Result<void> begin(const Header& header);
    Result<void> add(const Interval& interval);
    /// The last record; makes the file appear.
    Result<void> finish(const Outcome& outcome);

  private:
    Result<void> write(trace::Kind kind);

    OutputFile file_;
    bool rings_ = false;
    std::string payload_;
    std::string frame_;
};

}  // namespace dirtyring::cli
