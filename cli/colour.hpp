// SPDX-License-Identifier: MIT
//
// From cold to hot: dark violet over red and orange to pale yellow. The way goes through OKLCh (B.
// Ottosson, "A perceptual color space for image processing", 2020) with lightness rising evenly, so
// equal steps look equal, and the order survives a grey print and the common colour blindnesses.
#pragma once

#include <cstdint>
#include <string>

namespace dirtyring::cli {

struct Rgb {
    std::uint8_t red;
    std::uint8_t green;
    std::uint8_t blue;
};

/// The colour of a heat from 0 to 1.
[[nodiscard]] Rgb heat_colour(double heat) noexcept;
/// "#rrggbb".
[[nodiscard]] std::string hex(Rgb colour);
/// The nearest of the 6 x 6 x 6 cube of a terminal with 256 colours.
[[nodiscard]] unsigned nearest_of_256(Rgb colour) noexcept;

/// Where `value` lies between `least` and `most` on a logarithmic scale, 0 to 1. All above 0.
[[nodiscard]] double log_place(double value, double least, double most) noexcept;

}  // namespace dirtyring::cli
