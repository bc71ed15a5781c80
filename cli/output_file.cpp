// SPDX-License-Identifier: MIT
#include "output_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>

namespace dirtyring::cli {

namespace {

tl::unexpected<Error> failed(int code, const std::string& path, std::string remedy = {}) {
    return fail({code, fmt::format("write {}", path), {}, std::move(remedy)});
}

/// Where symbolic links lead; the path itself where there is no file yet.
std::string resolved(const std::string& path) {
    struct Free {
        void operator()(char* text) const noexcept { std::free(text); }
    };
    const std::unique_ptr<char, Free> real(::realpath(path.c_str(), nullptr));
    return real ? real.get() : path;
}

mode_t usual_mode() {
    const mode_t mask = ::umask(0);
    ::umask(mask);
    return 0666 & ~mask;
}

}  // namespace

Result<OutputFile> OutputFile::create(const std::string& path) {
    const std::string target = resolved(path);
    struct stat there{};
    const bool exists = ::stat(target.c_str(), &there) == 0;
    if (exists && !S_ISREG(there.st_mode)) {
        kvm::Fd fd = kvm::Fd::own(::open(target.c_str(), O_WRONLY | O_CLOEXEC));
        if (fd.get() < 0) {
            return failed(errno, path);
        }
        return OutputFile(path, {}, {}, std::move(fd));
    }
    if (exists && ::access(target.c_str(), W_OK) != 0) {
        return failed(errno, path, "choose another name or make it writable");
    }
    const std::size_t name = target.find_last_of('/') + 1;  // npos + 1 is 0
    std::string temporary =
        fmt::format("{}.{}.XXXXXX", target.substr(0, name), target.substr(name));
    kvm::Fd fd = kvm::Fd::own(::mkostemp(temporary.data(), O_CLOEXEC));
    if (fd.get() < 0) {
        return failed(errno, path);
    }
    OutputFile file(path, target, std::move(temporary), std::move(fd));
    if (::fchmod(file.fd_.get(), exists ? there.st_mode & 07777 : usual_mode()) != 0) {
        return failed(errno, path);
    }
    return file;
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      target_(std::move(other.target_)),
      temporary_(std::exchange(other.temporary_, {})),
      fd_(std::move(other.fd_)) {}

OutputFile::~OutputFile() {
    if (!temporary_.empty()) {
        ::unlink(temporary_.c_str());
    }
}

Result<void> OutputFile::write(std::string_view bytes) {
    return write_all(fd_.get(), bytes, path_);
}

Result<void> OutputFile::commit() {
    if (temporary_.empty()) {
        return {};
    }
    if (::fsync(fd_.get()) != 0 || ::rename(temporary_.c_str(), target_.c_str()) != 0) {
        return failed(errno, path_);
    }
    temporary_.clear();
    return {};
}

Result<std::optional<OutputFile>> create_if_wanted(const std::string& path) {
    if (path.empty()) {
        return std::nullopt;
    }
    return OutputFile::create(path).map(
        [](OutputFile&& file) { return std::optional(std::move(file)); });
}

Result<void> write_all(int fd, std::string_view bytes, std::string_view what) {
    while (!bytes.empty()) {
        const ssize_t written = ::write(fd, bytes.data(), bytes.size());
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written < 0) {
            return fail({errno, fmt::format("write {}", what), {}, {}});
        }
        bytes.remove_prefix(static_cast<std::size_t>(written));
    }
    return {};
}

}  // namespace dirtyring::cli
