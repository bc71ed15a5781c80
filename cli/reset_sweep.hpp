// SPDX-License-Identifier: MIT
//
// What dirtyring bench reset measures: rounds a second of guests that are reset after each, in
// several ways that take turns.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bench.hpp"
#include "rivals/reset_loop.hpp"
#include "session.hpp"

namespace dirtyring::cli {

/// What the guest of a row does.
enum class ResetPattern : std::uint8_t {
    same,    ///< it writes the same pages in each round
    drift,   ///< of each ten pages another one gives way to a new one in each round
    random,  ///< it writes others in each round
    guests,  ///< a built-in guest's own round
    clones   ///< as same, in two clones on threads of their own
};
inline constexpr std::array reset_patterns = {ResetPattern::same, ResetPattern::drift,
                                              ResetPattern::random, ResetPattern::guests,
                                              ResetPattern::clones};
[[nodiscard]] std::string_view name(ResetPattern pattern) noexcept;

struct ResetPlan {
    std::vector<std::uint64_t> memories;  ///< bytes, rising
    std::vector<std::uint64_t> pages;     ///< written in a round, rising
    std::vector<ResetPattern> patterns;
    /// A way's turn takes so long, and at least reset_block_rounds.
    std::chrono::nanoseconds block{};
    std::size_t least_blocks = 1;  ///< of each way in a row
    std::size_t most_blocks = 1;
    /// After so long a row has no more blocks than it must.
    std::chrono::nanoseconds row_time{};

    [[nodiscard]] bool has(ResetPattern pattern) const;
};
inline constexpr std::uint64_t reset_block_rounds = 5;

struct ResetRate {
    double rounds_per_second = 0;  ///< the median of the blocks
    std::size_t blocks = 0;
    std::uint64_t rounds = 0;  ///< of all blocks
    std::uint64_t pages = 0;   ///< restored in the last round
    std::uint64_t hot = 0;     ///< left writable after it
};

struct ResetRow {
    std::uint64_t memory = 0;  ///< bytes
    ResetPattern pattern = ResetPattern::same;
    std::string guest;
    std::uint64_t pages = 0;  ///< written in a round; of guests: restored by ours
    std::map<bench::Reset, ResetRate> ways;

    [[nodiscard]] std::optional<double> rate(bench::Reset way) const;
    [[nodiscard]] std::optional<double> ours_to_limit() const;
    [[nodiscard]] std::optional<double> ours_to_best_peer() const;
};

struct CloneRates {
    std::uint64_t memory = 0;
    std::uint64_t pages = 0;
    double one = 0;  ///< rounds a second of one clone; a median
    double two = 0;  ///< of two together
    std::size_t blocks = 0;

    [[nodiscard]] double ratio() const { return two / one; }
};

/// Told as things are measured. Each may fail, and so ends the sweep.
struct ResetListener {
    /// Rows of this memory and pattern come next.
    std::function<Result<void>(std::uint64_t memory, ResetPattern pattern)> table;
    std::function<Result<void>(const ResetRow& row)> row;
    /// No machines could be made for the rows of this table, or for a guest.
    std::function<Result<void>(std::uint64_t memory, ResetPattern pattern, const Error& why)>
        left_out;
    std::function<Result<void>(const CloneRates& rates)> clones;
};

/// Measures what is planned, as far as this host has it, until a signal comes. Errors: those of
/// ResetLoop, of what was not restored, and of the listener.
[[nodiscard]] Result<void> sweep(const ResetPlan& plan, const BenchHost& host,
                                 Interruption& interruption, const ResetListener& listener);

}  // namespace dirtyring::cli
