// SPDX-License-Identifier: MIT
#include "format.hpp"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <cmath>

namespace dirtyring::cli {

std::string grouped(std::uint64_t value) {
    const std::string digits = std::to_string(value);
    std::string text;
    for (std::size_t i = 0; i < digits.size(); ++i) {
        if (i != 0 && (digits.size() - i) % 3 == 0) {
            text += ',';
        }
        text += digits[i];
    }
    return text;
}

std::string grouped(double value) {
    return value < 10 && value > 0 ? fmt::format("{:.1f}", value)
                                   : grouped(static_cast<std::uint64_t>(std::llround(value)));
}

std::string counted(std::uint64_t count, std::string_view one) {
    return fmt::format("{} {}{}", grouped(count), one, count == 1 ? "" : "s");
}

std::string bytes(std::uint64_t value) {
    constexpr std::array units = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    const auto unit = static_cast<std::size_t>(std::bit_width(value | 1) - 1) / 10;
    const std::uint64_t one = std::uint64_t{1} << (10 * unit);
    if (value % one == 0) {
        return fmt::format("{} {}", value / one, units[unit]);
    }
    return fmt::format("{:.1f} {}", static_cast<double>(value) / static_cast<double>(one),
                       units[unit]);
}

std::string duration(std::uint64_t nanoseconds) {
    struct Unit {
        double size;
        const char* name;
    };
    constexpr std::array units = {Unit{1e9, "s"}, Unit{1e6, "ms"}, Unit{1e3, "us"}};
    const auto value = static_cast<double>(nanoseconds);
    for (const Unit& unit : units) {
        if (value >= unit.size) {
            const double count = value / unit.size;
            // Three figures, but never fewer than all before the point.
            const int decimals = count < 9.995 ? 2 : count < 99.95 ? 1 : 0;
            return fmt::format("{:.{}f} {}", count, decimals, unit.name);
        }
    }
    return fmt::format("{} ns", nanoseconds);
}

std::string percent(double part, double whole) {
    return fmt::format("{:.1f} %", whole > 0 ? 100 * part / whole : 0.0);
}

}  // namespace dirtyring::cli
