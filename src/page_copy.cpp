// SPDX-License-Identifier: MIT
#include "page_copy.hpp"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dirtyring {

namespace {

constexpr std::size_t line = 64;

// Compared at a time, with one jump for all of them.
constexpr std::size_t group = 4 * line;

// A quarter of a line; every CPU that has KVM loads as much at once. What follows is part of each
// function that uses it, for whatever CPU that is.
using Quarter = long long __attribute__((vector_size(16)));

[[gnu::always_inline]] inline Quarter load(const std::byte* from) noexcept {
    Quarter quarter;
    std::memcpy(&quarter, from, sizeof quarter);
    return quarter;
}

// Where the bits of two lines differ.
[[gnu::always_inline]] inline Quarter difference(const std::byte* a, const std::byte* b) noexcept {
    return ((load(a) ^ load(b)) | (load(a + 16) ^ load(b + 16))) |
           ((load(a + 32) ^ load(b + 32)) | (load(a + 48) ^ load(b + 48)));
}

[[gnu::always_inline]] inline bool any(Quarter bits) noexcept {
    return (bits[0] | bits[1]) != 0;
}

// Where a page's lines are read from. Both places are in registers, and the compiler does not know
// that one holds zeroes only: it would spare itself the load by a branch, and which lines of a page
// are used no CPU could guess.
class Lines {
  public:
    [[gnu::always_inline]] explicit Lines(const PageContent& page) noexcept
        : bytes_(page.bytes), used_(page.lines) {
        asm("" : "+r"(zeroes_));
    }
    [[nodiscard, gnu::always_inline]] const std::byte* at(std::size_t offset) const noexcept {
        return (used_ >> (offset / line) & 1) != 0 ? bytes_ + offset : zeroes_;
    }

  private:
    const std::byte* bytes_;
    const std::byte* zeroes_ = zero_page.data();
    std::uint64_t used_;
};

// How much of the next page is fetched while a page is compared. Which is better depends on how
// many loads a CPU has under way at a time.
enum class Ahead { beginning, all };

template <Ahead How>
[[gnu::always_inline]] inline void fetch(const std::byte* next, std::size_t at) noexcept {
    constexpr std::size_t beginning = 4 * line;
    if (How == Ahead::all || at < beginning) {
        __builtin_prefetch(next + at);
    }
}

// Of a group; true, as there are some.
[[gnu::always_inline]] inline bool store_changed_lines(std::byte* to, const Lines& lines,
                                                       std::size_t first) noexcept {
    for (std::size_t at = first; at < first + group; at += line) {
        const std::byte* const was = lines.at(at);
        if (any(difference(to + at, was))) {
            std::memcpy(to + at, was, line);
        }
    }
    return true;
}

template <Ahead How>
bool copy_lines(std::byte* to, const PageContent& from, const std::byte* next) noexcept {
    const Lines lines(from);
    bool changed = false;
    for (std::size_t first = 0; first < page_size; first += group) {
        Quarter bits{};
        for (std::size_t at = first; at < first + group; at += line) {
            fetch<How>(next, at);
            bits |= difference(to + at, lines.at(at));
        }
        if (any(bits)) [[unlikely]] {
            changed = store_changed_lines(to, lines, first);
        }
    }
    return changed;
}

// For pages that have been written all over.
bool copy_from_first_change(std::byte* to, const PageContent& from,
                            const std::byte* next) noexcept {
    const Lines lines(from);
    std::size_t at = 0;
    for (; at < page_size && !any(difference(to + at, lines.at(at))); at += line) {
        fetch<Ahead::beginning>(next, at);
    }
    std::memcpy(to + at, from.bytes + at, page_size - at);
    return at != page_size;
}

#if defined(__x86_64__)

// The same as copy_lines, with fewer and wider loads. Those have names of their own: the compiler
// makes a memcpy to a local of 16 bytes at a time, and what then loads it at once waits for that.
// And what these functions call is made part of them: as code for any CPU it would be without the
// prefix that a CPU wants of what comes after wide loads, and be slowed down until these are over.

// SAFETY: __m256i may alias anything, and no alignment is asked for.
[[gnu::target("avx2"), gnu::always_inline]] inline __m256i load256(const void* from) noexcept {
    return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}

[[gnu::target("avx512f"), gnu::always_inline]] inline __m512i load512(const void* from) noexcept {
    return _mm512_loadu_si512(from);
}

template <Ahead How>
[[gnu::target("avx2")]] bool copy_lines_avx2(std::byte* to, const PageContent& from,
                                             const std::byte* next) noexcept {
    const Lines lines(from);
    bool changed = false;
    for (std::size_t first = 0; first < page_size; first += group) {
        __m256i bits = _mm256_setzero_si256();
#pragma GCC unroll 4
        for (std::size_t at = first; at < first + group; at += line) {
            fetch<How>(next, at);
            const std::byte* const is = to + at;
            const std::byte* const was = lines.at(at);
            bits = _mm256_or_si256(bits, _mm256_xor_si256(load256(is), load256(was)));
            bits = _mm256_or_si256(bits, _mm256_xor_si256(load256(is + 32), load256(was + 32)));
        }
        if (_mm256_testz_si256(bits, bits) == 0) [[unlikely]] {
            changed = store_changed_lines(to, lines, first);
        }
    }
    return changed;
}

template <Ahead How>
[[gnu::target("avx512f")]] bool copy_lines_avx512(std::byte* to, const PageContent& from,
                                                  const std::byte* next) noexcept {
    const Lines lines(from);
    bool changed = false;
    for (std::size_t first = 0; first < page_size; first += group) {
        __m512i bits = _mm512_setzero_si512();
#pragma GCC unroll 4
        for (std::size_t at = first; at < first + group; at += line) {
            fetch<How>(next, at);
            bits = _mm512_or_si512(bits, _mm512_xor_si512(load512(to + at), load512(lines.at(at))));
        }
        if (_mm512_test_epi64_mask(bits, bits) != 0) [[unlikely]] {
            changed = store_changed_lines(to, lines, first);
        }
    }
    return changed;
}

#endif

struct Copies {
    std::array<PageCopy, 7> ways = {copy_lines<Ahead::beginning>, copy_lines<Ahead::all>,
                                    copy_from_first_change};
    std::size_t count = 3;

    Copies() noexcept {
#if defined(__x86_64__)
        if (__builtin_cpu_supports("avx2")) {
            ways[count++] = copy_lines_avx2<Ahead::beginning>;
            ways[count++] = copy_lines_avx2<Ahead::all>;
        }
        if (__builtin_cpu_supports("avx512f")) {
            ways[count++] = copy_lines_avx512<Ahead::beginning>;
            ways[count++] = copy_lines_avx512<Ahead::all>;
        }
#endif
    }
};

}  // namespace

std::uint64_t used_lines(const std::byte* bytes) noexcept {
    std::uint64_t lines = 0;
    for (std::size_t at = 0; at < page_size; at += line) {
        lines |= std::uint64_t{any(difference(bytes + at, zero_page.data()))} << (at / line);
    }
    return lines;
}

bool copy_changed_lines(std::byte* to, const PageContent& from, const std::byte* next) noexcept {
    return copy_lines<Ahead::beginning>(to, from, next);
}

std::span<const PageCopy> page_copies() noexcept {
    static const Copies copies;
    return std::span(copies.ways).first(copies.count);
}

}  // namespace dirtyring
