// SPDX-License-Identifier: MIT
//
// One page made equal to another, in the ways that Snapshot chooses from.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "dirtyring/memory.hpp"

namespace dirtyring {

alignas(64) inline constexpr std::array<std::byte, page_size> zero_page{};

/// 4,096 bytes, and which of their 64 cache lines may hold anything but zeroes: the others need not
/// be read, and most lines of most guests' memory are such.
struct PageContent {
    const std::byte* bytes = nullptr;
    std::uint64_t lines = ~std::uint64_t{0};  ///< bit i: bytes 64 i to 64 i + 63
};

/// The lines of a page that do hold something.
[[nodiscard]] std::uint64_t used_lines(const std::byte* bytes) noexcept;

/// Makes 4,096 bytes equal to others; true where they were not. `next` is the page whose turn it
/// will be then, which is fetched ahead: a CPU does so by itself within a page, and not from one to
/// the next. Any thread.
using PageCopy = bool (*)(std::byte* to, const PageContent& from, const std::byte* next) noexcept;

/// Stores the cache lines that differ. What was not written stays clean in the CPU's cache and is
/// not written back.
bool copy_changed_lines(std::byte* to, const PageContent& from, const std::byte* next) noexcept;

/// All ways that this CPU has. The first are plain: they need nothing that not every CPU has.
[[nodiscard]] std::span<const PageCopy> page_copies() noexcept;

}  // namespace dirtyring
