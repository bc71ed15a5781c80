// SPDX-License-Identifier: MIT
#include "parse.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <optional>

namespace dirtyring::cli {

namespace {

constexpr std::string_view letters = "KMGT";

/// How far to shift for what stands after the digits.
std::optional<unsigned> shift_of(std::string_view suffix) {
    if (suffix.empty()) {
        return 0;
    }
    const char first = suffix.front();
    const std::size_t place =
        letters.find(first >= 'a' && first <= 'z' ? static_cast<char>(first - 'a' + 'A') : first);
    const std::string_view rest = suffix.substr(1);
    if (place == std::string_view::npos || (!rest.empty() && rest != "B" && rest != "iB")) {
        return std::nullopt;
    }
    return static_cast<unsigned>(10 * (place + 1));
}

/// The shortest way to write it.
std::string with_letter(std::uint64_t value) {
    std::size_t place = 0;
    while (value != 0 && value % 1024 == 0 && place < letters.size()) {
        value /= 1024;
        ++place;
    }
    return place == 0 ? std::to_string(value) : fmt::format("{}{}", value, letters[place - 1]);
}

tl::unexpected<Error> refuse(std::string_view text, std::string cause, std::string remedy) {
    return fail({0, fmt::format("\"{}\"", text), std::move(cause), std::move(remedy)});
}

Result<std::uint64_t> parse(std::string_view text, std::uint64_t least, std::uint64_t most,
                            std::string_view small, const std::string& range) {
    std::uint64_t value = 0;
    const char* const end = text.data() + text.size();
    // NOLINTNEXTLINE(bugprone-suspicious-stringview-data-usage): `end` is the size
    const auto [rest, code] = std::from_chars(text.data(), end, value);
    if (code == std::errc::result_out_of_range) {
        return refuse(text, "it is too large", range);
    }
    if (text.starts_with('-')) {
        return refuse(text, "it is not a positive number", range);
    }
    const std::optional<unsigned> shift = shift_of({rest, end});
    if (code != std::errc() || !shift) {
        return refuse(text, "it is not a whole number",
                      "write digits, and K, M, G or T after them for times 2^10 to 2^40");
    }
    const std::uint64_t scaled = value << *shift;
    if (scaled >> *shift != value || scaled > most) {
        return refuse(text, "it is too large", range);
    }
    if (scaled < least) {
        return refuse(text, std::string(small), range);
    }
    return scaled;
}

}  // namespace

Result<std::uint64_t> parse_count(std::string_view text, std::uint64_t least, std::uint64_t most) {
    return parse(text, least, most, "it is too small", fmt::format("give {} to {}", least, most));
}

Result<std::uint64_t> parse_size(std::string_view text, std::uint64_t least, std::uint64_t most) {
    return parse(text, least, most, "it is too small for a number of bytes",
                 fmt::format("give {} to {}", with_letter(least), with_letter(most)));
}

Result<std::uint64_t> parse_rate(std::string_view text, std::uint64_t least, std::uint64_t most) {
    std::string_view size = text;
    if (size.ends_with("/s")) {
        size.remove_suffix(2);
    }
    return parse(size, least, most, "it is too small for bytes a second",
                 fmt::format("give {} to {}", with_letter(least), with_letter(most)))
        .map_error([&](Error error) {
            error.operation = fmt::format("\"{}\"", text);  // as it was given
            return error;
        });
}

Result<std::chrono::nanoseconds> parse_seconds(std::string_view text) {
    constexpr double most = 365 * 24 * 3600;
    double value = 0;
    const char* const end = text.data() + text.size();
    // NOLINTNEXTLINE(bugprone-suspicious-stringview-data-usage): `end` is the size
    const auto [rest, code] = std::from_chars(text.data(), end, value, std::chars_format::fixed);
    if (code != std::errc() || rest != end) {
        return refuse(text, "it is not a number of seconds", "write it as 10 or 0.5");
    }
    if (std::isnan(value) || value < 1e-3 || value > most) {
        return refuse(text, "it is not from a millisecond to a year", "give 0.001 to 31536000");
    }
    return std::chrono::nanoseconds(static_cast<std::int64_t>(value * 1e9));
}

}  // namespace dirtyring::cli
