// SPDX-License-Identifier: MIT
#include "../../src/source/hot_pages.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "allocations.hpp"

namespace dirtyring {
namespace {

constexpr std::uint64_t pages = 10'000;

class HotPagesTest : public testing::Test {
  protected:
    /// A round in which these pages are written; gives how many of them faulted, which those do
    /// that are armed. `clean_known`: whoever uses them says which were not written.
    unsigned round(const std::vector<std::uint64_t>& written, bool clean_known = true) {
        std::vector<bool> is_written(pages);
        unsigned faults = 0;
        unsigned carriers = 0;
        for (const std::uint64_t page : written) {
            is_written[page] = true;
            if (!hot.pages().contains(page)) {
                ++faults;
                carriers += hot.written(page) ? 1U : 0U;
            }
        }
        for (; carriers != 0 && hot.take_due(); --carriers) {
        }
        hot.end_round();
        if (clean_known) {
            std::vector<std::uint64_t> clean;
            hot.pages().for_each([&](std::uint64_t page) {
                if (!is_written[page]) {
                    clean.push_back(page);
                }
            });
            for (const std::uint64_t page : clean) {
                hot.found_clean(page);
            }
            hot.told();
        }
        return faults;
    }
    static std::vector<std::uint64_t> range(std::uint64_t first, std::uint64_t count) {
        std::vector<std::uint64_t> all;
        for (std::uint64_t page = first; page < first + count; ++page) {
            all.push_back(page);
        }
        return all;
    }

    HotPages hot{pages, pages};
};

TEST_F(HotPagesTest, ItsWordsAreItsPagesAfterEachChange) {
    const auto words_are_pages = [&] {
        PageSet from_words(pages);
        from_words.merge(hot.words());
        std::vector<std::uint64_t> expected;
        std::vector<std::uint64_t> found;
        hot.pages().for_each([&](std::uint64_t page) { expected.push_back(page); });
        from_words.for_each([&](std::uint64_t page) { found.push_back(page); });
        EXPECT_EQ(found, expected);
        return found.size();
    };
    EXPECT_EQ(words_are_pages(), 0U);
    round(range(60, 100));
    round(range(60, 100));
    EXPECT_GT(words_are_pages(), 50U);
    hot.pages().for_each([&](std::uint64_t page) { hot.found_clean(page); });
    ASSERT_TRUE(hot.take_due());
    words_are_pages();
    // Others become hot, and carry some of the first back to being armed.
    round(range(5000, 20));
    round(range(5000, 20));
    words_are_pages();
    EXPECT_FALSE(hot.pages().contains(60) && hot.pages().contains(159));
    hot.all_armed();
    EXPECT_EQ(words_are_pages(), 0U);
}

TEST_F(HotPagesTest, APageWrittenInTwoRoundsInARowIsHot) {
    EXPECT_FALSE(hot.written(7));
    hot.end_round();
    EXPECT_EQ(hot.size(), 0U);
    EXPECT_TRUE(hot.written(7));
    hot.end_round();
    EXPECT_EQ(hot.size(), 1U);
    EXPECT_TRUE(hot.pages().contains(7));
}

TEST_F(HotPagesTest, APageWrittenInEverySecondRoundIsNot) {
    for (int i = 0; i < 20; ++i) {
        EXPECT_FALSE(hot.written(7));
        hot.end_round();
        hot.end_round();
    }
}

// Of pages written twice in a row two of three are taken to come back again, until more is known,
// and one that does not is used eight times for nothing.
TEST_F(HotPagesTest, APageIsHotWhereThatIsExpectedToPay) {
    for (const auto& [use, pays] : {std::pair(740.0, true), std::pair(760.0, false)}) {
        hot = HotPages(pages, pages);
        hot.set_costs({.armed = 3000, .use = use});
        hot.written(7);
        hot.end_round();
        EXPECT_EQ(hot.written(7), pays) << use;
    }
}

TEST_F(HotPagesTest, HowMuchAUseCostsDecides) {
    const auto faults_in_the_end = [this](double use) {
        hot = HotPages(pages, pages);
        hot.set_costs({.armed = 3000, .use = use});
        std::mt19937 random(1);
        unsigned faults = 0;
        for (int i = 0; i < 40; ++i) {
            std::vector<std::uint64_t> half;
            for (std::uint64_t page = 0; page < 1000; ++page) {
                if (random() % 2 == 0) {
                    half.push_back(page);
                }
            }
            faults = round(half);
        }
        return faults;
    };
    EXPECT_LT(faults_in_the_end(10), 250U);
    EXPECT_GT(faults_in_the_end(2000), 400U) << "copying what was not written costs more";
}

TEST_F(HotPagesTest, TheSamePagesSoonFaultNoMore) {
    EXPECT_EQ(round(range(0, 1000)), 1000U);
    EXPECT_EQ(round(range(0, 1000)), 1000U);
    EXPECT_EQ(round(range(0, 1000)), 125U) << "one in eight is left armed, to be seen";
    for (int i = 0; i < 5; ++i) {
        round(range(0, 1000));
    }
    for (int i = 0; i < 100; ++i) {
        EXPECT_EQ(round(range(0, 1000)), 0U);
    }
    EXPECT_EQ(hot.size(), 1000U);
}

TEST_F(HotPagesTest, NeverMoreThanAllowed) {
    hot = HotPages(pages, 10);
    for (int i = 0; i < 5; ++i) {
        round(range(0, 1000));
        EXPECT_LE(hot.size(), 10U);
    }
    EXPECT_EQ(hot.size(), 10U);
}

TEST_F(HotPagesTest, APageFoundCleanIsArmedInTheNextPlaceThatIsFree) {
    round(range(0, 3));
    round(range(0, 3));
    hot.found_clean(1);
    hot.end_round();  // without a free place
    hot.found_clean(1);
    EXPECT_EQ(hot.take_due(), 1U);
    EXPECT_EQ(hot.size(), 2U);
    EXPECT_EQ(hot.take_due(), std::nullopt);
    EXPECT_EQ(hot.take_due(), std::nullopt) << "the others are not due";
}

TEST_F(HotPagesTest, AsManyOldPagesAreTriedAsNewOnesBecomeHot) {
    for (const std::uint64_t page : range(0, 7)) {
        hot.written(page);
    }
    hot.end_round();
    for (const std::uint64_t page : range(0, 7)) {
        hot.written(page);
    }
    for (const std::uint64_t page : range(100, 4)) {
        hot.written(page);
    }
    hot.end_round();
    const std::uint64_t old = hot.size();
    for (const std::uint64_t page : range(100, 4)) {
        hot.written(page);
    }
    const std::uint64_t both = hot.size();
    EXPECT_GE(both, old + 3);
    while (const std::optional<std::uint64_t> tried = hot.take_due()) {
        EXPECT_LT(*tried, 7U) << "it has only just become hot";
    }
    EXPECT_EQ(hot.size(), old);
}

// Where one becomes hot in each round, the others are tried in turn, and then again.
TEST_F(HotPagesTest, OldPagesAreTriedInTurn) {
    for (int i = 0; i < 2; ++i) {
        hot.written(1005);
        hot.written(1006);
        hot.end_round();
    }
    ASSERT_EQ(hot.size(), 2U);
    hot.end_round();
    hot.end_round();
    // In the next rounds none of these has its own turn.
    std::vector<std::uint64_t> tried;
    for (std::uint64_t page = 5; page < 5 + 5 * 16; page += 16) {
        if (!tried.empty()) {
            EXPECT_TRUE(hot.written(tried.back())) << "it comes back";
        }
        EXPECT_TRUE(hot.written(page)) << "as those before it came back";
        tried.push_back(hot.take_due().value_or(pages));
        EXPECT_EQ(hot.take_due(), std::nullopt) << "as many as have become hot";
        hot.end_round();
    }
    EXPECT_EQ(tried, (std::vector<std::uint64_t>{1005, 1006, 5, 21, 37}));
}

TEST_F(HotPagesTest, PagesOfEachRoundAreHotByTheThirdWhateverElseIsWritten) {
    for (std::uint64_t i = 0; i < 3; ++i) {
        for (const std::uint64_t page : range(0, 8)) {
            hot.written(page);
        }
        for (const std::uint64_t other : range(1000 * (i + 1), 1000)) {
            hot.written(other);
        }
        hot.end_round();
    }
    EXPECT_EQ(hot.size(), 8U);
}

// Each has a ring, and so an entry for the page.
TEST_F(HotPagesTest, WhatSeveralVcpusWriteInOneRoundHasNotComeBack) {
    hot.set_costs({.armed = 100, .use = 100});
    for (std::uint64_t i = 0; i < 9; ++i) {
        for (const std::uint64_t page : range(1000 * i, 1000)) {
            for (int vcpu = 0; vcpu < 3; ++vcpu) {
                hot.written(page);
            }
        }
        hot.end_round();
    }
    EXPECT_EQ(hot.size(), 0U);
}

TEST_F(HotPagesTest, AWorkingSetThatMovesLeavesNothingHotBehind) {
    for (std::uint64_t first : {0U, 3000U, 6000U}) {
        for (int i = 0; i < 6; ++i) {
            round(range(first, 1000));
        }
        EXPECT_EQ(hot.size(), 1000U);
        EXPECT_TRUE(hot.pages().contains(first));
        EXPECT_EQ(hot.pages().size(first, pages), 1000U) << "nothing before " << first;
    }
}

TEST_F(HotPagesTest, WithoutAWordFromTheUserAPageIsTriedInOneRoundOf16ThenOf32) {
    const auto rounds_to_trial = [&] {
        unsigned rounds = 1;
        for (; !hot.take_due() && rounds < 40'000; ++rounds) {
            hot.end_round();
        }
        hot.end_round();
        return rounds;
    };
    hot.written(7);
    hot.end_round();
    hot.written(7);
    EXPECT_LE(rounds_to_trial(), 16U);
    for (unsigned period = 32; period <= 32'768; period *= 2) {
        EXPECT_TRUE(hot.written(7)) << "it comes back, and is hot at once";
        const unsigned rounds = rounds_to_trial();
        EXPECT_GE(rounds, period / 2);
        EXPECT_LE(rounds, period);
    }
    for (int i = 0; i < 3; ++i) {
        EXPECT_TRUE(hot.written(7));
        EXPECT_EQ(rounds_to_trial(), 32'768U) << "the longest";
    }
    hot.end_round();
    hot.written(7);
    hot.written(7);
    EXPECT_LE(rounds_to_trial(), 16U) << "it did not come back, and was forgotten";
}

TEST_F(HotPagesTest, PagesHaveTheirTrialsApartFromEachOther) {
    for (int i = 0; i < 5; ++i) {
        round(range(0, 160));
    }
    ASSERT_EQ(hot.size(), 160U);
    hot.end_round();
    for (int i = 0; i < 32; ++i) {  // some of them were tried early when others became hot
        unsigned tried = 0;
        while (const std::optional<std::uint64_t> page = hot.take_due()) {
            EXPECT_FALSE(hot.pages().contains(*page));
            ++tried;
        }
        EXPECT_LE(tried, 10U);
        hot.end_round();
    }
    EXPECT_EQ(hot.size(), 0U);
}

TEST_F(HotPagesTest, WhereTheUserTellsWhatWasNotWrittenNoPageIsTried) {
    for (int i = 0; i < 5; ++i) {
        round(range(0, 1000));
    }
    for (int i = 0; i < 100; ++i) {
        EXPECT_EQ(hot.take_due(), std::nullopt) << "though there is a place for it";
        hot.end_round();
        hot.told();
    }
}

// It is written in every third round, say, or with what it holds anyway.
TEST_F(HotPagesTest, APageThatComesBackOnceItIsArmedIsHarderToConvinceOf) {
    round({7});
    round({7});
    const auto clean_round = [&] {
        hot.found_clean(7);
        hot.told();
        const bool armed = hot.take_due().has_value();
        hot.end_round();
        return armed;
    };
    unsigned faults = 0;
    for (int i = 0; i < 1024; ++i) {
        // Once it is armed it comes back, and a page written in a round is not found clean.
        while (!clean_round() && ++i % 3 != 0) {
        }
        faults += hot.pages().contains(7) ? 0U : 1U;
        ASSERT_TRUE(hot.written(7));
        hot.end_round();
    }
    EXPECT_GE(faults, 5U);
    EXPECT_LE(faults, 11U);
    unsigned rounds = 1;
    for (; !clean_round() && rounds < 10'000; ++rounds) {
    }
    EXPECT_GT(rounds, 16U);
    EXPECT_LE(rounds, 2048U) << "in the end it is believed";
}

TEST_F(HotPagesTest, WherePagesComeBackMostNewOnesAreHotAtOnce) {
    for (int i = 0; i < 4; ++i) {
        round(range(0, 1000));
    }
    round(range(5000, 800));
    EXPECT_NEAR(static_cast<double>(hot.pages().size(4608, pages)), 700, 1);
}

TEST_F(HotPagesTest, WhereNoneComesBackNoNewOneIs) {
    for (std::uint64_t i = 0; i < 9; ++i) {
        round(range(i * 1000, 1000));
    }
    EXPECT_EQ(hot.size(), 0U);
}

TEST_F(HotPagesTest, ArmingAllIsWorthItWhenTheUseOfCleanPagesHasCostAsMuch) {
    hot.set_costs({.armed = 3000, .use = 200});
    for (int i = 0; i < 3; ++i) {
        round(range(0, 10));
    }
    // All ten stay clean: 2 us a round, against 30 us for their faults and 10 us for the arming.
    unsigned rounds = 0;
    for (; !hot.worth_arming_all(10'000) && rounds < 100; ++rounds) {
        round({});
    }
    EXPECT_EQ(rounds, 21U);
    hot.all_armed();
    EXPECT_EQ(hot.size(), 0U);
    EXPECT_TRUE(hot.pages().empty());
    EXPECT_FALSE(hot.worth_arming_all(0));
}

TEST_F(HotPagesTest, WhatUsingPagesHasCostIsForgottenWhenTheyHaveBeenArmed) {
    round(range(0, 2));
    round(range(0, 2));
    for (int i = 0; i < 100; ++i) {
        round({});
    }
    EXPECT_TRUE(hot.worth_arming_all(0));
    EXPECT_TRUE(hot.take_due());
    EXPECT_TRUE(hot.worth_arming_all(0)) << "one of them is still to be armed";
    EXPECT_TRUE(hot.take_due());
    EXPECT_FALSE(hot.worth_arming_all(0));
    hot.found_clean(0);
    EXPECT_FALSE(hot.worth_arming_all(0)) << "it is armed";
}

TEST_F(HotPagesTest, APageThatWasArmedWithAllIsHotAgainWhenItComesBack) {
    for (int i = 0; i < 3; ++i) {
        round(range(0, 10));
    }
    hot.all_armed();
    hot.end_round();
    EXPECT_EQ(round(range(0, 10)), 10U);
    EXPECT_EQ(hot.size(), 10U);
}

TEST_F(HotPagesTest, NothingIsLeftOfPagesThatWereArmedWithAllAndDidNotComeBack) {
    round(range(0, 10));
    round(range(0, 2));
    ASSERT_EQ(hot.size(), 2U);
    hot.found_clean(1);
    hot.all_armed();
    EXPECT_EQ(hot.take_due(), std::nullopt);
    hot.end_round();
    hot.end_round();
    hot.set_costs({.armed = 1, .use = 1000});
    EXPECT_FALSE(hot.written(0)) << "as new, and of new ones too few come back";
}

TEST_F(HotPagesTest, WhatIsRememberedDoesNotGrowWithTheRounds) {
    std::uint64_t i = 0;
    unsigned tried = 0;
    const auto rounds = [&](int count) {
        for (; count > 0; --count, ++i) {
            hot.written(100 + i % 50);  // armed each time
            if (i % 6 < 3) {
                hot.written(1);  // hot, found clean, and forgotten
            }
            if (i % 6 == 4) {
                hot.found_clean(1);
            }
            while (hot.take_due()) {
                ++tried;
            }
            hot.end_round();
        }
    };
    rounds(1000);
    const std::uint64_t before = allocations();
    rounds(10'000);
    EXPECT_EQ(allocations() - before, 0U);
    EXPECT_GT(tried, 1000U);
}

}  // namespace
}  // namespace dirtyring
