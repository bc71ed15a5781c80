// SPDX-License-Identifier: MIT
//
// How a trace is laid out: docs/trace-format.md. Here is what its writer and its reader share.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace dirtyring::cli::trace {

/// A byte that no text begins with, then the name and the version of the format.
inline constexpr std::string_view magic =
    "\xd1"
    "drtrace"
    "\x01";

enum class Kind : std::uint8_t { header = 1, interval = 2, outcome = 3 };

inline constexpr std::size_t frame_head = 5;  // kind, length of the payload
inline constexpr std::size_t frame_tail = 4;  // checksum
/// More than the largest interval takes: every other page of 64 GiB dirty, at two bytes a run.
inline constexpr std::uint32_t max_payload = std::uint32_t{1} << 26;

/// CRC-32 as in Ethernet, gzip and PNG.
[[nodiscard]] constexpr std::uint32_t crc32(std::string_view bytes,
                                            std::uint32_t before = 0) noexcept {
    constexpr auto table = [] {
        std::array<std::uint32_t, 256> made{};
        for (std::uint32_t i = 0; i < 256; ++i) {
            std::uint32_t value = i;
            for (int bit = 0; bit < 8; ++bit) {
                value = value >> 1 ^ ((value & 1) != 0 ? 0xedb88320U : 0);
            }
            made[i] = value;
        }
        return made;
    }();
    std::uint32_t crc = ~before;
    for (const char byte : bytes) {
        crc = crc >> 8 ^ table[(crc ^ static_cast<unsigned char>(byte)) & 0xff];
    }
    return ~crc;
}
static_assert(crc32("123456789") == 0xcbf43926);

inline void put_u32(std::string& out, std::uint32_t value) {
    for (int shift = 0; shift < 32; shift += 8) {
        out += static_cast<char>(value >> shift & 0xff);
    }
}
[[nodiscard]] inline std::uint32_t get_u32(std::string_view bytes) noexcept {
    std::uint32_t value = 0;
    for (unsigned i = 0; i < 4; ++i) {
        value |= std::uint32_t{static_cast<unsigned char>(bytes[i])} << 8 * i;
    }
    return value;
}

/// Seven bits a byte, the least first; the top bit says that more follow (LEB128).
inline void put_number(std::string& out, std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) {
        out += static_cast<char>(value | 0x80);
    }
    out += static_cast<char>(value);
}
inline void put_text(std::string& out, std::string_view text) {
    put_number(out, text.size());
    out += text;
}

/// Takes a payload apart. What is not there or too large reads as 0 or nothing and makes it bad.
class Cursor {
  public:
    explicit Cursor(std::string_view bytes) noexcept : rest_(bytes) {}

    /// A number of at most `most`.
    [[nodiscard]] std::uint64_t number(std::uint64_t most = ~std::uint64_t{0}) noexcept {
        std::uint64_t value = 0;
        for (unsigned shift = 0; shift < 64; shift += 7) {
            if (rest_.empty()) {
                break;
            }
            const auto byte = static_cast<unsigned char>(rest_.front());
            rest_.remove_prefix(1);
            const std::uint64_t part = byte & 0x7f;
            if (part << shift >> shift != part) {
                break;
            }
            value |= part << shift;
            if ((byte & 0x80) == 0) {
                return value <= most ? value : fail();
            }
        }
        return fail();
    }
    [[nodiscard]] std::string text() noexcept {
        const std::uint64_t length = number(rest_.size());
        const std::string_view taken = rest_.substr(0, length);
        rest_.remove_prefix(taken.size());
        return std::string(taken);
    }

    /// Everything was there and nothing is left.
    [[nodiscard]] bool complete() const noexcept { return good_ && rest_.empty(); }
    /// Bytes not yet taken.
    [[nodiscard]] std::size_t left() const noexcept { return rest_.size(); }

  private:
    std::uint64_t fail() noexcept {
        good_ = false;
        rest_ = {};
        return 0;
    }

    std::string_view rest_;
    bool good_ = true;
};

}  // namespace dirtyring::cli::trace
