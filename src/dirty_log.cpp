// SPDX-License-Identifier: MIT
#include "dirtyring/dirty_log.hpp"

#include <algorithm>
#include <span>
#include <string>

namespace dirtyring {

namespace {

// Clean words between dirty ones that are cheaper to hand to one KVM_CLEAR_DIRTY_LOG than to spend
// another call on: the kernel reads about one a nanosecond, a call costs some hundreds.
constexpr std::size_t gap_words = 256;
// Of one call, whose page count has 32 bits.
constexpr std::size_t most_words = std::size_t{1} << 20;

std::size_t words_of(const MemorySlot& slot) {
    return static_cast<std::size_t>((slot.pages() + 63) / 64);
}

// The first word from `i` on that is not 0, or words.size(). Most words of most bitmaps are 0, so
// eight are looked at at once.
std::size_t next_dirty(std::span<const std::uint64_t> words, std::size_t i) {
    constexpr std::size_t stride = 8;
    for (; words.size() - i >= stride; i += stride) {
        std::uint64_t any = 0;
        for (std::size_t k = 0; k < stride; ++k) {
            any |= words[i + k];
        }
        if (any != 0) {
            break;
        }
    }
    while (i < words.size() && words[i] == 0) {
        ++i;
    }
    return i;
}

}  // namespace

Result<void> DirtyLog::clear_words(const MemorySlot& slot, std::size_t first,
                                   std::size_t end) const {
    const std::uint64_t first_page = std::uint64_t{first} * 64;
    const std::uint64_t pages = std::min(slot.pages(), std::uint64_t{end} * 64) - first_page;
    return vm_.clear_dirty_log(slot.slot, first_page, static_cast<std::uint32_t>(pages),
                               std::span(bitmap_).subspan(first, end - first));
}

Result<void> DirtyLog::read_slot(DirtySet& set, std::size_t place, const Plan& plan) {
    const MemorySlot& slot = set.memory().slots()[place];
    const std::size_t words = words_of(slot);
    bitmap_.resize(std::max(bitmap_.size(), words));
    const std::span bitmap = std::span(bitmap_).first(words);
    Result<void> done = vm_.get_dirty_log(slot.slot, bitmap);
    std::size_t first = 0;  // of the words to be cleared by one call
    std::size_t end = 0;
    for (std::size_t i = next_dirty(bitmap, 0); done && i < words; i = next_dirty(bitmap, i + 1)) {
        set.insert_word(place, i, bitmap[i]);
        if (mode_ == BitmapMode::automatic) {
            continue;
        }
        if (plan) {
            bitmap[i] = plan(place, i, bitmap[i]);
        }
        if (end != 0 && (i - end > gap_words || i - first >= most_words)) {
            done = clear_words(slot, first, end);
            end = 0;
        }
        if (end == 0) {
            first = i;
        }
        end = i + 1;
    }
    if (done && end != 0) {
        done = clear_words(slot, first, end);
    }
    return done;
}

Result<void> DirtyLog::read(DirtySet& set, const Plan& plan) {
    for (std::size_t place = 0; place < set.memory().slots().size(); ++place) {
        if (Result<void> done = read_slot(set, place, plan); !done) {
            done.error().operation +=
                "(slot " + std::to_string(set.memory().slots()[place].slot) + ")";
            return done;
        }
    }
    return {};
}

}  // namespace dirtyring
