// SPDX-License-Identifier: MIT
//
// PageSet against std::set.
#include "dirtyring/page_set.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

namespace dirtyring {
namespace {

using Model = std::set<std::uint64_t>;
using Runs = std::vector<std::pair<std::uint64_t, std::uint64_t>>;

// Capacities of one, two and three levels, with and without a part of a word at their end.
std::uint64_t arbitrary_capacity() {
    return *rc::gen::oneOf(rc::gen::inRange<std::uint64_t>(1, 200),
                           rc::gen::inRange<std::uint64_t>(4000, 4300),
                           rc::gen::inRange<std::uint64_t>(262'000, 262'400));
}

// Clusters of pages, so that there are runs.
Model arbitrary_pages(std::uint64_t capacity) {
    Model pages;
    const auto clusters =
        *rc::gen::container<std::vector<std::pair<std::uint64_t, std::uint64_t>>>(rc::gen::pair(
            rc::gen::inRange<std::uint64_t>(0, capacity), rc::gen::inRange<std::uint64_t>(1, 130)));
    for (const auto& [first, count] : clusters) {
        for (std::uint64_t page = first; page < std::min(first + count, capacity); ++page) {
            pages.insert(page);
        }
    }
    return pages;
}

PageSet set_of(std::uint64_t capacity, const Model& pages) {
    PageSet set(capacity);
    for (const std::uint64_t page : pages) {
        set.insert(page);
    }
    return set;
}

void check_same(const PageSet& set, const Model& model) {
    RC_ASSERT(set.size() == model.size());
    std::vector<std::uint64_t> walked;
    set.for_each([&](std::uint64_t page) { walked.push_back(page); });
    RC_ASSERT(std::ranges::equal(walked, model));
}

RC_GTEST_PROP(PageSetModel, HoldsWhatWasInserted, ()) {
    const std::uint64_t capacity = arbitrary_capacity();
    PageSet set(capacity);
    Model model;
    for (const std::uint64_t page : arbitrary_pages(capacity)) {
        RC_ASSERT(set.insert(page) == model.insert(page).second);
    }
    const auto more = *rc::gen::container<std::vector<std::uint64_t>>(
        rc::gen::inRange<std::uint64_t>(0, capacity));
    for (const std::uint64_t page : more) {
        RC_ASSERT(set.contains(page) == model.contains(page));
        RC_ASSERT(set.insert(page) == model.insert(page).second);
    }
    check_same(set, model);
    RC_ASSERT(set.clear() == model.size());
    check_same(set, {});
}

RC_GTEST_PROP(PageSetModel, InsertsWholeWords, ()) {
    const std::uint64_t capacity = arbitrary_capacity();
    Model model = arbitrary_pages(capacity);
    PageSet set = set_of(capacity, model);
    const auto words = *rc::gen::container<std::vector<std::pair<std::size_t, std::uint64_t>>>(
        rc::gen::pair(rc::gen::inRange<std::size_t>(0, (capacity + 63) / 64),
                      rc::gen::arbitrary<std::uint64_t>()));
    for (const auto& [index, bits] : words) {
        set.insert_word(index, bits);
        for (std::uint64_t i = 0; i < 64; ++i) {
            if ((bits >> i & 1) != 0 && index * 64 + i < capacity) {
                model.insert(index * 64 + i);
            }
        }
    }
    check_same(set, model);
}

RC_GTEST_PROP(PageSetModel, MergeIsTheUnion, ()) {
    const std::uint64_t capacity = arbitrary_capacity();
    Model model = arbitrary_pages(capacity);
    const Model other = arbitrary_pages(capacity);
    PageSet set = set_of(capacity, model);
    set.merge(set_of(capacity, other));
    model.insert(other.begin(), other.end());
    check_same(set, model);
}

RC_GTEST_PROP(PageSetModel, MergeOfWordsIsTheUnion, ()) {
    const std::uint64_t capacity = arbitrary_capacity();
    Model model = arbitrary_pages(capacity);
    const Model other = arbitrary_pages(capacity);
    std::vector<PageWord> words;
    set_of(capacity, other).for_each_word([&](std::size_t index, std::uint64_t bits) {
        words.push_back({index, bits});
    });
    PageSet set = set_of(capacity, model);
    set.merge(words);
    model.insert(other.begin(), other.end());
    check_same(set, model);
}

RC_GTEST_PROP(PageSetModel, RunsAreMaximalAndBridgeGaps, ()) {
    const std::uint64_t capacity = arbitrary_capacity();
    const Model model = arbitrary_pages(capacity);
    const auto gap = *rc::gen::inRange<std::uint64_t>(0, 100);
    Runs expected;
    for (const std::uint64_t page : model) {
        if (!expected.empty() && page - (expected.back().first + expected.back().second) <= gap) {
            expected.back().second = page + 1 - expected.back().first;
        } else {
            expected.emplace_back(page, 1);
        }
    }
    Runs runs;
    set_of(capacity, model)
        .for_each_run(
            [&](std::uint64_t first, std::uint64_t count) { runs.emplace_back(first, count); },
            gap);
    RC_ASSERT(runs == expected);
}

}  // namespace
}  // namespace dirtyring
