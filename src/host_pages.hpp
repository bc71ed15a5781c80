// SPDX-License-Identifier: MIT
#pragma once

#include <cerrno>
#include <string>
#include <utility>

#include "dirtyring/memory.hpp"
#include "sys.hpp"

namespace dirtyring {

/// Fails where the host's kernel has other pages than this library (arm64 with 16 or 64 KiB), so
/// that slots, rings and bitmaps count in another unit.
inline Result<void> check_host_pages(std::string operation) {
    const auto host = static_cast<std::uint64_t>(sys::page_size());
    if (host != page_size) {
        return fail({EOPNOTSUPP, std::move(operation),
                     "this host's kernel has pages of " + std::to_string(host) +
                         " bytes, and dirtyring is for 4096",
                     "use a kernel with pages of 4 KiB"});
    }
    return {};
}

}  // namespace dirtyring
