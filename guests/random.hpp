// SPDX-License-Identifier: MIT
//
// Random numbers for guest programs, in integer arithmetic only, so that a guest and a test on the
// host get the same numbers from the same seed.
#pragma once

#include <bit>
#include <cstdint>
#include <numeric>

namespace dirtyring::guest {

/// The output function of SplitMix64: a bijection of the 64-bit numbers that leaves no visible
/// pattern.
constexpr std::uint64_t mix64(std::uint64_t x) {
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

/// The upper 64 bits of the 128-bit product.
constexpr std::uint64_t multiply_high(std::uint64_t a, std::uint64_t b) {
    __extension__ using Wide = unsigned __int128;
    return static_cast<std::uint64_t>((static_cast<Wide>(a) * b) >> 64);
}

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
class Random {
  public:
    constexpr explicit Random(std::uint64_t seed) : state_(seed) {}

    /// A stream of its own for each vCPU and round.
    constexpr Random(std::uint64_t seed, std::uint64_t vcpu, std::uint64_t round)
        : state_(mix64(mix64(mix64(seed) ^ vcpu) ^ round)) {}

    constexpr std::uint64_t next() {
        const std::uint64_t value = mix64(state_);
        state_ += 0x9e3779b97f4a7c15;
        return value;
    }

    /// A number in 0 .. bound - 1; some are likelier than others by at most bound / 2^64.
    constexpr std::uint64_t below(std::uint64_t bound) { return multiply_high(next(), bound); }

  private:
    std::uint64_t state_;
};

/// Zipf's law with exponent 1: the k-th rank (from 1) is drawn with a probability in proportion to
/// 1/k.
///
/// Rejection, without logarithms or tables: for the 2^j ranks from 2^j on, 1/k is at most 1/2^j,
/// and this bound adds up to 1 for every j. So j is drawn evenly, then k evenly among its ranks,
/// and k is taken with probability 2^j / k, which is above one half. Ranks past the end are drawn
/// again.
class Zipf {
  public:
    /// `count` ranks, at least 1.
    constexpr explicit Zipf(std::uint64_t count)
        : count_(count), octaves_(static_cast<unsigned>(std::bit_width(count))) {}

    /// A rank, from 0: 0 .. count - 1.
    constexpr std::uint64_t draw(Random& random) const {
        for (;;) {
            const std::uint64_t octave = std::uint64_t{1} << random.below(octaves_);
            const std::uint64_t k = octave + (random.next() & (octave - 1));
            if (k <= count_ && multiply_high(random.next(), k) < octave) {
                return k - 1;
            }
        }
    }

  private:
    std::uint64_t count_;
    unsigned octaves_;
};

/// A permutation of 0 .. count - 1 that puts neighbours far apart, so that the low ranks of Zipf's
/// law do not share a few pages: multiplication by a number near the golden section of `count` and
/// coprime to it.
class Scatter {
  public:
    /// `count` in 1 .. 2^32.
    constexpr explicit Scatter(std::uint64_t count)
        : count_(count), step_(multiply_high(count, 0x9e3779b97f4a7c15)) {
        while (step_ > 1 && std::gcd(step_, count_) != 1) {
            --step_;
        }
        if (step_ == 0) {
            step_ = 1;
        }
    }

    /// `index` in 0 .. count - 1.
    constexpr std::uint64_t at(std::uint64_t index) const { return index * step_ % count_; }

  private:
    std::uint64_t count_;
    std::uint64_t step_;
};

}  // namespace dirtyring::guest
