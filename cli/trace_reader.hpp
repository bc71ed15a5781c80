// SPDX-License-Identifier: MIT
//
// Reads a trace (docs/trace-format.md) record by record. Any bytes may be given to it.
#pragma once

#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "dirtyring/error.hpp"
#include "record.hpp"
#include "trace_format.hpp"

namespace dirtyring::cli {

/// Not thread-safe. Errors of every call: fopen's and fread's own; code 0 with a sentence where the
/// file is not a trace, is damaged, ends too early or goes on after its end.
class TraceReader {
  public:
    /// Opens the file and reads its header.
    [[nodiscard]] static Result<TraceReader> open(const std::string& path);

    [[nodiscard]] const Header& header() const noexcept { return header_; }
    /// Reads the next interval into `interval`, whose storage is used again; false at the end, when
    /// outcome() is there. There is at least one interval.
    [[nodiscard]] Result<bool> next(Interval& interval);
    [[nodiscard]] const Outcome& outcome() const noexcept { return outcome_; }

  private:
    struct Close {
        void operator()(std::FILE* file) const noexcept { std::fclose(file); }
    };
    TraceReader(std::string path, std::FILE* file) : path_(std::move(path)), file_(file) {}

    [[nodiscard]] Result<std::size_t> read(std::size_t bytes);
    [[nodiscard]] Result<trace::Kind> read_record();
    [[nodiscard]] tl::unexpected<Error> refuse(std::string cause) const;
    [[nodiscard]] tl::unexpected<Error> damaged() const;
    [[nodiscard]] bool read_header();
    [[nodiscard]] bool read_interval(Interval& interval);
    [[nodiscard]] bool read_outcome();

    std::string path_;
    std::unique_ptr<std::FILE, Close> file_;
    std::string bytes_;         // of the read at hand
    std::string payload_;       // of the record at hand
    std::uint64_t record_ = 0;  // its number, from 1
    std::uint64_t end_ns_ = 0;  // of the interval before
    Header header_;
    Outcome outcome_;
};

}  // namespace dirtyring::cli
