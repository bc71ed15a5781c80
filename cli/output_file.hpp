// SPDX-License-Identifier: MIT
//
// A file that is there whole or not at all: written beside its place under a name of its own, and
// renamed to it when it is complete.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "dirtyring/error.hpp"
#include "dirtyring/kvm/fd.hpp"

namespace dirtyring::cli {

/// Move-only; not thread-safe.
class OutputFile {
  public:
    /// Checks that `path` can be written and opens the file beside it. A pipe or a device is
    /// written as it is, for nothing could take its place. Errors: those of open, EISDIR, EACCES (a
    /// file that is there and may not be written).
    [[nodiscard]] static Result<OutputFile> create(const std::string& path);

    OutputFile(OutputFile&& other) noexcept;
    OutputFile& operator=(OutputFile&&) = delete;
    OutputFile(const OutputFile&) = delete;
    OutputFile& operator=(const OutputFile&) = delete;
    /// Removes what has not been committed.
    ~OutputFile();

    /// Errors: write's own, ENOSPC among them.
    Result<void> write(std::string_view bytes);
    /// Puts the file in its place, where an older one goes. Errors: fsync's and rename's own. Once.
    Result<void> commit();
    /// Both, for a file that is written at once.
    Result<void> finish(std::string_view bytes) {
        return write(bytes).and_then([this] { return commit(); });
    }

  private:
    OutputFile(std::string path, std::string target, std::string temporary, kvm::Fd fd) noexcept
        : path_(std::move(path)),
          target_(std::move(target)),
          temporary_(std::move(temporary)),
          fd_(std::move(fd)) {}

    std::string path_;       // as given, for errors
    std::string target_;     // where symbolic links lead
    std::string temporary_;  // empty: written in place, or committed
    kvm::Fd fd_;
};

/// Nothing for an empty path: no file is asked for. Errors: those of OutputFile::create.
[[nodiscard]] Result<std::optional<OutputFile>> create_if_wanted(const std::string& path);

/// Writes all of it. `what` is named in the error, which is write's own. Any thread.
[[nodiscard]] Result<void> write_all(int fd, std::string_view bytes, std::string_view what);

}  // namespace dirtyring::cli
