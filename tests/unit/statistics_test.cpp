// SPDX-License-Identifier: MIT
#include "dirtyring/statistics.hpp"

#include <gtest/gtest.h>

#include <clocale>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace dirtyring {
namespace {

using nlohmann::json;

// Measuring
// ---------------------------------------------------------------------------------------------

// statistics() within the clock's first tick: JSON has no word for 0 / 0.
TEST(PerSecond, IsAMeanAndNothingBeforeTheClockMoves) {
    EXPECT_EQ(per_second(3, 500'000'000), 6);
    EXPECT_EQ(per_second(0, 1), 0);
    EXPECT_EQ(per_second(0, 0), 0);
    EXPECT_EQ(per_second(5, 0), 0);
}

TEST(Histogram, ATimeIsInTheFirstBucketWhoseBoundItIsBelow) {
    Histogram histogram;
    for (const std::uint64_t time : {0U, 1U, 2U, 3U, 4U, 1023U, 1024U}) {
        histogram.add(time);
    }
    EXPECT_EQ(histogram.buckets()[0], 1U);   // below 1 ns
    EXPECT_EQ(histogram.buckets()[1], 1U);   // 1
    EXPECT_EQ(histogram.buckets()[2], 2U);   // 2 and 3
    EXPECT_EQ(histogram.buckets()[3], 1U);   // 4
    EXPECT_EQ(histogram.buckets()[10], 1U);  // 1023
    EXPECT_EQ(histogram.buckets()[11], 1U);  // 1024
    EXPECT_EQ(histogram.count(), 7U);
    EXPECT_EQ(histogram.sum(), 2057U);
}

TEST(Histogram, TheLastBucketHasAllLongerTimes) {
    Histogram histogram;
    histogram.add(std::uint64_t{1} << 38);
    histogram.add(std::uint64_t{1} << 39);
    histogram.add(std::uint64_t{1} << 50);
    EXPECT_EQ(histogram.buckets()[Histogram::size - 1], 3U);
    EXPECT_EQ(histogram.count(), 3U);
}

TEST(Histogram, AShareOfTheTimesIsBelowABound) {
    Histogram histogram;
    EXPECT_EQ(histogram.below(0.5), 0U);
    for (int i = 0; i < 90; ++i) {
        histogram.add(1000);
    }
    for (int i = 0; i < 10; ++i) {
        histogram.add(1'000'000);
    }
    EXPECT_EQ(histogram.below(0), 1024U);
    EXPECT_EQ(histogram.below(0.5), 1024U);
    EXPECT_EQ(histogram.below(0.9), 1024U);
    EXPECT_EQ(histogram.below(0.91), 1U << 20);
    EXPECT_EQ(histogram.below(1), 1U << 20);
}

class MovingRateTest : public ::testing::Test {
  protected:
    using Clock = MovingRate::Clock;

    static constexpr Clock::duration after(double seconds) {
        return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    }
    /// `per_second` for so long, noted in steps.
    void go_on(double per_second, double seconds, double step) {
        for (double passed = 0; passed < seconds; passed += step) {
            now_ += after(step);
            rate_.add(static_cast<std::uint64_t>(std::lround(per_second * step)), now_);
        }
    }

    MovingRate rate_;
    Clock::time_point now_ = Clock::now();
};

TEST_F(MovingRateTest, ASteadyRateIsFoundWhateverTheSteps) {
    for (const double step : {0.001, 0.1, 2.0}) {
        go_on(5000, 10, step);
        EXPECT_NEAR(rate_.per_second(), 5000, 50) << step;
    }
}

TEST_F(MovingRateTest, WhatWasFadesByHalfInSevenTenthsOfASecond) {
    go_on(5000, 10, 0.1);
    go_on(0, 0.7, 0.1);
    EXPECT_NEAR(rate_.per_second(), 2500, 100);
    go_on(0, 7, 0.1);
    EXPECT_NEAR(rate_.per_second(), 0, 10);
}

TEST_F(MovingRateTest, CountsOfOneMomentAreOfTheTimeUntilTheNext) {
    go_on(0, 1, 0.1);
    rate_.add(100, now_);
    rate_.add(200, now_);
    EXPECT_NEAR(rate_.per_second(), 0, 1e-9);
    now_ += after(10);
    rate_.add(700, now_);
    EXPECT_NEAR(rate_.per_second(), 100, 1);
}

// Both texts
// ---------------------------------------------------------------------------------------------

/// Each member has a value of its own.
Statistics example() {
    Statistics statistics;
    statistics.nanoseconds = 2'500'000'000;
    std::uint64_t value = 100;
    for (int i = 0; i < 2; ++i) {
        VcpuStatistics vcpu;
        vcpu.entries = ++value;
        vcpu.duplicates = ++value;
        vcpu.full_exits = ++value;
        vcpu.overruns = ++value;
        vcpu.lost = ++value;
        vcpu.largest_fill = static_cast<std::uint32_t>(++value);
        vcpu.stopped_nanoseconds = ++value * 1'000'000;
        vcpu.pages_per_second = static_cast<double>(++value) + 0.5;
        vcpu.recent_pages_per_second = static_cast<double>(++value) + 0.25;
        vcpu.removed = i == 1;
        statistics.vcpus.push_back(vcpu);
    }
    statistics.all.entries = ++value;
    statistics.all.pages_per_second = static_cast<double>(++value) + 0.5;
    statistics.all.recent_pages_per_second = static_cast<double>(++value) + 0.25;
    statistics.collects = ++value;
    statistics.committed = ++value;
    statistics.aborted = ++value;
    statistics.everything = ++value;
    statistics.short_resets = ++value;
    statistics.suspects = ++value;
    statistics.stale = ++value;
    statistics.marks_outside = ~std::uint64_t{0};
    statistics.collect.add(0);
    statistics.collect.add(700);
    statistics.collect.add(800);
    statistics.harvest.add(std::uint64_t{1} << 60);
    return statistics;
}

TEST(StatisticsAsJson, HasEveryMemberByItsName) {
    const Statistics statistics = example();
    const json parsed = json::parse(to_json(statistics));
    EXPECT_EQ(parsed["nanoseconds"], statistics.nanoseconds);
    EXPECT_EQ(parsed["collects"], statistics.collects);
    EXPECT_EQ(parsed["committed"], statistics.committed);
    EXPECT_EQ(parsed["aborted"], statistics.aborted);
    EXPECT_EQ(parsed["everything"], statistics.everything);
    EXPECT_EQ(parsed["short_resets"], statistics.short_resets);
    EXPECT_EQ(parsed["suspects"], statistics.suspects);
    EXPECT_EQ(parsed["stale"], statistics.stale);
    EXPECT_EQ(parsed["marks_outside"], statistics.marks_outside);
    EXPECT_EQ(parsed["all"]["entries"], statistics.all.entries);
    ASSERT_EQ(parsed["vcpus"].size(), 2U);
    for (std::size_t i = 0; i < 2; ++i) {
        const json& vcpu = parsed["vcpus"][i];
        const VcpuStatistics& expected = statistics.vcpus[i];
        EXPECT_EQ(vcpu["entries"], expected.entries);
        EXPECT_EQ(vcpu["duplicates"], expected.duplicates);
        EXPECT_EQ(vcpu["full_exits"], expected.full_exits);
        EXPECT_EQ(vcpu["overruns"], expected.overruns);
        EXPECT_EQ(vcpu["lost"], expected.lost);
        EXPECT_EQ(vcpu["largest_fill"], expected.largest_fill);
        EXPECT_EQ(vcpu["stopped_nanoseconds"], expected.stopped_nanoseconds);
        EXPECT_EQ(vcpu["pages_per_second"], expected.pages_per_second);
        EXPECT_EQ(vcpu["bytes_per_second"], expected.pages_per_second * 4096);
        EXPECT_EQ(vcpu["recent_pages_per_second"], expected.recent_pages_per_second);
        EXPECT_EQ(vcpu["recent_bytes_per_second"], expected.recent_pages_per_second * 4096);
        EXPECT_EQ(vcpu["removed"], expected.removed);
        EXPECT_EQ(vcpu.size(), 12U);
    }
    EXPECT_EQ(parsed.size(), 14U);  // with the three below
}

TEST(StatisticsAsJson, AHistogramHasItsFilledBuckets) {
    const json parsed = json::parse(to_json(example()));
    EXPECT_EQ(parsed["collect"],
              json::parse(R"({"count": 3, "sum": 1500, "buckets": [[1, 1], [1024, 2]]})"));
    EXPECT_EQ(parsed["harvest"]["count"], 1);
    EXPECT_EQ(parsed["reset"], json::parse(R"({"count": 0, "sum": 0, "buckets": []})"));
}

TEST(StatisticsAsJson, OfNothingIsAnObjectOfZeros) {
    const json parsed = json::parse(to_json(Statistics()));
    EXPECT_EQ(parsed["vcpus"], json::array());
    for (const json& object : {parsed, parsed["all"]}) {
        for (const auto& [name, value] : object.items()) {
            EXPECT_EQ(value.is_number() ? value : json(0), 0) << name;
        }
    }
}

/// What a Prometheus server makes of the text.
struct Metrics {
    std::map<std::string, std::string> types;
    std::map<std::string, double> samples;  // by name and labels, as written
    std::vector<std::string> order;         // of these

    explicit Metrics(const std::string& text) {
        const std::regex comment(R"(# (HELP|TYPE) ([a-z_]+) (.+))");
        const std::regex sample(R"(([a-z_]+)(\{[a-z]+="[^"]+"\})? (\S+))");
        std::set<std::string> helped;
        std::istringstream lines(text);
        std::smatch match;
        EXPECT_TRUE(text.ends_with('\n'));
        for (std::string line; std::getline(lines, line);) {
            if (std::regex_match(line, match, comment)) {
                const std::string name = match[2];
                const bool first = match[1] == "HELP" ? helped.insert(name).second
                                                      : types.emplace(name, match[3]).second;
                EXPECT_TRUE(first) << "twice: " << line;
                EXPECT_TRUE(helped.contains(name)) << "HELP comes first: " << line;
            } else if (std::regex_match(line, match, sample)) {
                EXPECT_TRUE(types.contains(family(match[1]))) << "of no type: " << line;
                order.push_back(match[1].str() + match[2].str());
                EXPECT_TRUE(samples.emplace(order.back(), std::stod(match[3])).second)
                    << "twice: " << line;
            } else {
                ADD_FAILURE() << "not Prometheus: " << line;
            }
        }
    }

    /// The name that HELP and TYPE have: a histogram's samples have three.
    [[nodiscard]] std::string family(const std::string& name) const {
        for (const char* suffix : {"_bucket", "_sum", "_count"}) {
            if (name.ends_with(suffix)) {
                std::string base = name.substr(0, name.size() - std::string(suffix).size());
                const auto found = types.find(base);
                if (found != types.end() && found->second == "histogram") {
                    return base;
                }
            }
        }
        return name;
    }
    [[nodiscard]] double at(const std::string& name) const {
        const auto found = samples.find(name);
        EXPECT_NE(found, samples.end()) << name;
        return found == samples.end() ? std::nan("") : found->second;
    }
};

TEST(StatisticsForPrometheus, EveryNameHasOneHelpAndOneTypeAndBeginsAlike) {
    const Metrics metrics(to_prometheus(example()));
    for (const auto& [name, type] : metrics.types) {
        EXPECT_TRUE(name.starts_with("dirtyring_")) << name;
        EXPECT_EQ(name.ends_with("_total"), type == "counter") << name << " is a " << type;
        EXPECT_EQ(name.ends_with("_seconds"), type == "histogram") << name << " is a " << type;
    }
    EXPECT_EQ(metrics.types.size(), 26U);
}

TEST(StatisticsForPrometheus, CountsAreOfTheVmOrOfAVcpu) {
    const Statistics statistics = example();
    const Metrics metrics(to_prometheus(statistics));
    EXPECT_EQ(metrics.at("dirtyring_collects_total"), statistics.collects);
    EXPECT_EQ(metrics.at("dirtyring_committed_total"), statistics.committed);
    EXPECT_EQ(metrics.at("dirtyring_aborted_total"), statistics.aborted);
    EXPECT_EQ(metrics.at("dirtyring_everything_total"), statistics.everything);
    EXPECT_EQ(metrics.at("dirtyring_short_resets_total"), statistics.short_resets);
    EXPECT_EQ(metrics.at("dirtyring_suspects"), statistics.suspects);
    EXPECT_EQ(metrics.at("dirtyring_stale_total"), statistics.stale);
    EXPECT_EQ(metrics.at("dirtyring_vm_dirty_pages_per_second"), statistics.all.pages_per_second);
    EXPECT_EQ(metrics.at("dirtyring_vm_dirty_bytes_per_second"), statistics.all.bytes_per_second());
    EXPECT_EQ(metrics.at("dirtyring_vm_recent_dirty_pages_per_second"),
              statistics.all.recent_pages_per_second);
    EXPECT_EQ(metrics.at("dirtyring_vm_recent_dirty_bytes_per_second"),
              statistics.all.recent_bytes_per_second());
    for (std::size_t i = 0; i < 2; ++i) {
        const VcpuStatistics& vcpu = statistics.vcpus[i];
        const std::string label = "{vcpu=\"" + std::to_string(i) + "\"}";
        EXPECT_EQ(metrics.at("dirtyring_entries_total" + label), vcpu.entries);
        EXPECT_EQ(metrics.at("dirtyring_duplicates_total" + label), vcpu.duplicates);
        EXPECT_EQ(metrics.at("dirtyring_ring_full_exits_total" + label), vcpu.full_exits);
        EXPECT_EQ(metrics.at("dirtyring_overruns_total" + label), vcpu.overruns);
        EXPECT_EQ(metrics.at("dirtyring_lost_entries_total" + label), vcpu.lost);
        EXPECT_EQ(metrics.at("dirtyring_largest_fill_entries" + label), vcpu.largest_fill);
        EXPECT_DOUBLE_EQ(metrics.at("dirtyring_stopped_seconds_total" + label),
                         static_cast<double>(vcpu.stopped_nanoseconds) / 1e9);
        EXPECT_EQ(metrics.at("dirtyring_dirty_pages_per_second" + label), vcpu.pages_per_second);
        EXPECT_EQ(metrics.at("dirtyring_dirty_bytes_per_second" + label), vcpu.bytes_per_second());
        EXPECT_EQ(metrics.at("dirtyring_recent_dirty_pages_per_second" + label),
                  vcpu.recent_pages_per_second);
        EXPECT_EQ(metrics.at("dirtyring_recent_dirty_bytes_per_second" + label),
                  vcpu.recent_bytes_per_second());
    }
}

TEST(StatisticsForPrometheus, AHistogramIsCumulativeAndEndsWithItsCount) {
    const Metrics metrics(to_prometheus(example()));
    for (const std::string name : {"collect", "harvest", "reset"}) {
        const std::string full = "dirtyring_" + name + "_seconds";
        double bound = 0;
        double below = 0;
        std::size_t buckets = 0;
        for (const std::string& sample : metrics.order) {
            if (sample.starts_with(full + "_bucket{le=\"")) {
                const double next = std::stod(sample.substr(full.size() + 12));
                EXPECT_GT(next, bound) << sample;
                EXPECT_GE(metrics.at(sample), below) << sample;
                bound = next;
                below = metrics.at(sample);
                ++buckets;
            }
        }
        EXPECT_EQ(buckets, Histogram::size) << name;
        EXPECT_TRUE(std::isinf(bound)) << name;
        EXPECT_EQ(below, metrics.at(full + "_count")) << name;
    }
    EXPECT_EQ(metrics.at("dirtyring_collect_seconds_bucket{le=\"1e-09\"}"), 1);
    EXPECT_EQ(metrics.at("dirtyring_collect_seconds_bucket{le=\"5.12e-07\"}"), 1);
    EXPECT_EQ(metrics.at("dirtyring_collect_seconds_bucket{le=\"1.024e-06\"}"), 3);
    EXPECT_DOUBLE_EQ(metrics.at("dirtyring_collect_seconds_sum"), 1.5e-6);
    // A time that is longer than the last bound is in +Inf alone.
    EXPECT_EQ(metrics.at("dirtyring_harvest_seconds_bucket{le=\"274.877907\"}"), 0);
    EXPECT_EQ(metrics.at("dirtyring_harvest_seconds_count"), 1);
    EXPECT_EQ(metrics.at("dirtyring_reset_seconds_count"), 0);
}

TEST(StatisticsForPrometheus, OfNothingIsWellFormedToo) {
    const Metrics metrics(to_prometheus(Statistics()));
    EXPECT_EQ(metrics.at("dirtyring_collects_total"), 0);
}

// A program that has set its locale prints 1,5 where JSON and Prometheus want 1.5.
TEST(StatisticsAsText, IsTheSameInEveryLocale) {
    const std::string json_text = to_json(example());
    const std::string prometheus_text = to_prometheus(example());
    const std::string before = std::setlocale(LC_NUMERIC, nullptr);
    bool comma = false;
    for (const char* name : {"de_DE.UTF-8", "de_DE", "fr_FR.UTF-8", "fr_FR"}) {
        comma = comma || std::setlocale(LC_NUMERIC, name) != nullptr;
    }
    const std::string other_json = to_json(example());
    const std::string other_prometheus = to_prometheus(example());
    std::setlocale(LC_NUMERIC, before.c_str());
    if (!comma) {
        GTEST_SKIP() << "needs a locale with a decimal comma, such as de_DE.UTF-8";
    }
    EXPECT_EQ(other_json, json_text);
    EXPECT_EQ(other_prometheus, prometheus_text);
}

}  // namespace
}  // namespace dirtyring
