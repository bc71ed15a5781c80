// SPDX-License-Identifier: MIT
#include "printable.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>

namespace dirtyring::cli {

namespace {

/// Bytes of the character that `text`, which is not empty, begins with; 0 if it is not printable.
std::size_t printable_length(std::string_view text) {
    const auto first = static_cast<unsigned char>(text.front());
    if (first < 0x80) {
        return (first >= 0x20 && first != 0x7f) || first == '\n' || first == '\t' ? 1 : 0;
    }
    const auto length = static_cast<std::size_t>(std::countl_one(first));
    if (length < 2 || length > 4 || length > text.size()) {
        return 0;
    }
    std::uint32_t code = first & (0x7fU >> length);
    for (std::size_t i = 1; i < length; ++i) {
        const auto next = static_cast<unsigned char>(text[i]);
        if ((next & 0xc0) != 0x80) {
            return 0;
        }
        code = code << 6 | (next & 0x3f);
    }
    // Below U+00A0 are the controls of the upper half; the others are the least that takes so many
    // bytes, surrogates, and what is past the end of Unicode or no character.
    constexpr std::uint32_t least[] = {0, 0, 0xa0, 0x800, 0x10000};
    const bool character = code >= least[length] && code <= 0x10ffff &&
                           (code < 0xd800 || code > 0xdfff) && (code & 0xfffe) != 0xfffe;
    return character ? length : 0;
}

}  // namespace

std::string printable(std::string_view text) {
    std::string safe;
    while (!text.empty()) {
        const std::size_t length = printable_length(text);
        if (length == 0) {
            safe += '?';
            text.remove_prefix(1);
        } else {
            safe += text.substr(0, length);
            text.remove_prefix(length);
        }
    }
    return safe;
}

}  // namespace dirtyring::cli
