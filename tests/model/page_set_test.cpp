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

std::vector<PageWord> words_of(std::uint64_t capacity, const Model& pages) {
    std::vector<PageWord> words;
    set_of(capacity, pages).for_each_word([&](std::size_t index, std::uint64_t bits) {
        words.push_back({index, bits});
    });
    return words;
}

// A range that a set can be walked over.
void check_same_in_some_blocks(const PageSet& set, const Model& model) {
    const std::uint64_t blocks = set.capacity() / PageSet::block_pages;
    const std::uint64_t first =
        *rc::gen::inRange<std::uint64_t>(0, blocks + 1) * PageSet::block_pages;
    const std::uint64_t end = std::min(
        first + *rc::gen::inRange<std::uint64_t>(0, 3) * PageSet::block_pages, set.capacity());
    std::vector<std::uint64_t> walked;
    set.for_each([&](std::uint64_t page) { walked.push_back(page); }, first, end);
    RC_ASSERT(std::ranges::equal(
        walked, std::ranges::subrange(model.lower_bound(first), model.lower_bound(end))));
}

// Merged words lie beside the bitmap for a while: no call may see that.
RC_GTEST_PROP(PageSetModel, MergeOfWordsIsTheUnionWhateverIsDoneNext, ()) {
    const std::uint64_t capacity = arbitrary_capacity();
    Model model = arbitrary_pages(capacity);
    PageSet set = set_of(capacity, model);
    const int steps = *rc::gen::inRange(1, 8);
    for (int step = 0; step < steps; ++step) {
        const Model other = arbitrary_pages(capacity);
        set.merge(words_of(capacity, other));
        model.insert(other.begin(), other.end());
        const auto page = *rc::gen::oneOf(rc::gen::inRange<std::uint64_t>(0, capacity),
                                          rc::gen::elementOf(model.empty() ? Model{0} : model));
        RC_ASSERT(set.contains(page) == model.contains(page));
        RC_ASSERT(set.empty() == model.empty());
        switch (*rc::gen::inRange(0, 6)) {
            case 0:
                RC_ASSERT(set.insert(page) == model.insert(page).second);
                break;
            case 1:
                set.erase(page);
                model.erase(page);
                RC_ASSERT(set.empty() == model.empty());
                break;
            case 2:
                set.insert_word(page / 64, std::uint64_t{1} << (page % 64));
                model.insert(page);
                break;
            case 3:
                set.merge(PageSet(set));
                break;
            case 4:
                RC_ASSERT(set.clear() == model.size());
                RC_ASSERT(set.empty());
                model.clear();
                break;
            default:
                break;
        }
        check_same(set, model);
        check_same_in_some_blocks(set, model);
    }
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
