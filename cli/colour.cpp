// SPDX-License-Identifier: MIT
#include "colour.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace dirtyring::cli {

namespace {

std::uint8_t encoded(double linear) noexcept {
    const double clipped = std::clamp(linear, 0.0, 1.0);
    const double value =
        clipped <= 0.0031308 ? 12.92 * clipped : 1.055 * std::pow(clipped, 1 / 2.4) - 0.055;
    return static_cast<std::uint8_t>(std::lround(255 * value));
}

Rgb from_oklch(double lightness, double chroma, double degrees) noexcept {
    const double hue = degrees * std::numbers::pi / 180;
    const double a = chroma * std::cos(hue);
    const double b = chroma * std::sin(hue);
    const double l = std::pow(lightness + 0.3963377774 * a + 0.2158037573 * b, 3);
    const double m = std::pow(lightness - 0.1055613458 * a - 0.0638541728 * b, 3);
    const double s = std::pow(lightness - 0.0894841775 * a - 1.2914855480 * b, 3);
    return {encoded(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
            encoded(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
            encoded(-0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s)};
}

}  // namespace

Rgb heat_colour(double heat) noexcept {
    const double t = std::clamp(heat, 0.0, 1.0);
    // Chroma stays inside sRGB all the way: it peaks at the reds, where the gamut is widest.
    const double chroma = 0.085 + 0.125 * std::sin(std::numbers::pi * std::pow(t, 0.95));
    return from_oklch(0.27 + 0.69 * t, chroma, 285 + 175 * t);
}

std::string hex(Rgb colour) {
    return fmt::format("#{:02x}{:02x}{:02x}", colour.red, colour.green, colour.blue);
}

unsigned nearest_of_256(Rgb colour) noexcept {
    // The cube's levels are 0, 95, 135, 175, 215, 255.
    const auto level = [](std::uint8_t value) {
        return value < 48 ? 0U : value < 115 ? 1U : (value - 35U) / 40U;
    };
    return 16 + 36 * level(colour.red) + 6 * level(colour.green) + level(colour.blue);
}

double log_place(double value, double least, double most) noexcept {
    return most > least ? std::clamp(std::log(value / least) / std::log(most / least), 0.0, 1.0)
                        : 1.0;
}

}  // namespace dirtyring::cli
